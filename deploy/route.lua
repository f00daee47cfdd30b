-- Orthanc: send every new radiograph to KneeXRay. What KneeXRay itself stored is not sent back to it.
function OnStoredInstance(instance, tags, metadata, origin)
  local radiograph = tags['Modality'] == 'DX' or tags['Modality'] == 'CR'
  if radiograph and origin['RemoteAet'] ~= 'KNEEXRAY' then
    SendToModality(instance, 'kneexray')
  end
end
