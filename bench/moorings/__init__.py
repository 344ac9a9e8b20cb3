"""Moorings by the thousand, with the whole operator and a real API server: the table "moorings".

`clients` says who is moored, `bare` writes the same Moorings and does nothing else, `watching` is what a watch of the
API sees, `measuring` runs it all, `table` writes down what came of it.
"""
