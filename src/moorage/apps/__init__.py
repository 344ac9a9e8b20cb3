"""The demo's two programs. They stand alone: the standard library and aiohttp only."""
