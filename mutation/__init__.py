"""Changes the code a little, one place at a time, and counts which changes the tests notice.

Run by hand, `make mutants`: hours for all packages. Our own, in a few hundred lines, for what we want of it: that it
also deletes statements, so that a call or an `await` that nobody would miss is seen; that it takes a sample of each
package, and runs the tests of a module before those of its package; and that it never touches the work tree.
"""
