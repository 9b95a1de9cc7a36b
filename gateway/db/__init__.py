"""The database: the bundled server, the engine and its transaction(), every table, migrations. Imports nothing."""
