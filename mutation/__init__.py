"""Changes the code a little, one place at a time, and counts which changes the tests notice.

Run by hand, `make mutants`: hours for all packages. Our own, in a few hundred lines, because neither of the tools
that are kept makes the changes that matter most: mutmut and cosmic-ray delete no statement, so that a call or an
`await` that nobody would miss stays unseen. Nor do they take a sample, or run the tests of a module before those of
its package; and cosmic-ray changes the work tree.
"""
