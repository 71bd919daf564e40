"""History, deployments, support bundles and migration."""
