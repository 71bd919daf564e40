"""The registry client: blobs, manifests and tags over HTTP, to servers that may be hostile.

Flow of a request: `RegistryStore` > `Client.request` adds what `Authenticator` knows, follows
redirects and turns refusals into errors > `Transport.send` tries again > `Sockets` connects. What
the caller may choose is in `settings.Settings`; `access.Access` makes it of `RegistryOptions`, the
environment and the docker configuration.

Reading order: `access`, `settings`; `store`, `blobs` (`download`, `upload`), `manifests`,
`referrers`; `client`; the rooms `login` (credentials and tokens) and `transport` (HTTP);
`refusals` (the words of errors); `features` (protocol features that fail); `logins` and
`diagnosis`, two verbs of the command.

Invariants: credentials go to the registry's own origin and to token services that
`login.challenges.check_realm` accepts, nowhere else; bodies are bounded and never decoded; every
wait has an end and can be interrupted; texts of servers are escaped before they are shown; only 404
means absent; a forked child uses connections and locks of its own.

Only this room speaks HTTP. Importing `access` is cheap; the others load urllib3, so they are
imported when the first registry is opened.
"""
