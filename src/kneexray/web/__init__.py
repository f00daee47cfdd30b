"""The web server: an API for programs, pages for people, DICOMweb for archives. Needs the ``serve`` extra."""
