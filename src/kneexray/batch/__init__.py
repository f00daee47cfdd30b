"""Grades films by the million: a plan fixed on disk, shards written whole, workers that may die, and a run that goes on where it was.

::

    films.list_films -> plan (films.parquet, plan.json) -> local or Ray: work.ShardGrader -> shards.write_shard

What is done is what lies in the output folder: a shard whose predictions file is there is finished, every other is graded again.
"""
