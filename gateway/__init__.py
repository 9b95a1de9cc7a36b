"""The order-sync gateway's nouns: orders, connections, platforms, accounts, database, web frame. Imports nothing."""
