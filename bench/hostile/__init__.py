"""Neighbours that try to stop the operator, and an honest tenant beside them: the table "hostile neighbours".

`kinds` says what each kind of neighbour does, `measuring` runs them, `table` writes down what came of it. `servers`
are the programs that they run, each a process of its own.
"""
