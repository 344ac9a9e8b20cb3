"""The demo's programs. They stand alone: the standard library and aiohttp only."""
