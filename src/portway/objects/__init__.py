"""What people declare: typed Kubernetes objects, one module per API group."""
