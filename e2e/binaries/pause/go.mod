// What holds a pod's namespaces: the sandbox image of the end-to-end clusters.
module moorage.dev/e2e/binaries/pause

go 1.24.0
