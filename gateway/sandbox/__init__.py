"""Simulated Shopify, WooCommerce and Etsy over real HTTP, for people without accounts and for tests.

It imports nothing of ours: a simulator that shared code with the adapters would check them against themselves.
Others may import: World, WebhookRequest and ChangeRefused from gateway.sandbox.world, create_app from
gateway.sandbox.server. `python -m gateway.sandbox --help` starts it as a process.
"""
