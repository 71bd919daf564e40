"""HTTP as registries need it: pooled connections, TLS, proxies, bounded answers, retries.

Flow: a request names a URL, headers and a body that can be rewound. `http` sends it over a pooled
connection (`connections`), by the environment's proxy if there is one, and tries again as `retries`
says. The answer's body is read by the caller, within bounds.

Files in reading order:
    urls         URLs as messages show them, and Link headers
    proxies      the environment's proxies, and the hosts that are reached directly
    certificates certificate authorities and client certificates, also of `certs.d`
    tls          contexts made of them
    connections  pools of connections that belong to one process
    retries      how often, how long, and for which answers a request is made again
    rate         a limit on the bytes per second of all transfers
    http         requests and answers

Invariants: a body that is sent again begins at its start. Waiting for a server ends when the caller
cancels. A child process makes connections of its own. No URL in a message shows its query.

Only the rooms of the registry client import this room; nothing else in the package speaks HTTP.
"""
