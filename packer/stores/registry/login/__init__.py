"""Logging in to a registry: where credentials come from, and whom they may be shown to.

Flow: `auth` finds the credentials of a host (arguments, environment, the docker and podman
configurations, credential helpers) when a server first asks for them, reads its challenge, and
returns the Authorization header for each request: Basic, or a token of the token service.

Files in reading order:
    credentials         credentials in configuration files, by host and repository
    credential_helpers  docker's helper programs, asked within bounds of time and output
    challenges          WWW-Authenticate headers, and the realms that may get credentials
    auth                headers for one repository: tokens kept, renewed and looked up again

Invariants: credentials belong to one host and are never sent to another. They are sent only after a
server asked for them, and looked up again when a server refuses them. No error shows a secret.

This room may import the transport beside it, and the vocabulary.
"""
