"""The commands that this distribution adds to `moorage` (entry-point group `moorage.commands`)."""

from moorage.cli.main import Entry

COMMANDS = {
    "demo": Entry("moorage_lab.cli.demo", "See sticky connections between two clusters on this machine."),
    "lab": Entry("moorage_lab.cli.lab", "Run clusters as network namespaces, and work with them."),
    "lab-apiserver": Entry("moorage_lab.cli.apiserver", "The API server of a lab cluster.", True, "info"),
    "lab-names": Entry("moorage_lab.cli.names", "The name server of a lab's internet.", True, "info"),
    "lab-control": Entry("moorage_lab.cli.control", "The controllers and kubelets of a lab cluster.", True, "info"),
}
