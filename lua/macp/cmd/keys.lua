-- `macp keys`: API keys of the HTTP interface. No database, no network.

return {
  summary = "Make API keys, and check files of them.",
  help = [[
  macp keys new ops                              a key, and the entry that lets it in
  macp keys new acme-ci --tenant acme --scopes runs:read,webhooks:* --expires 2027-01-31
  macp keys hash ops < key.txt                   the entry of a key that exists
  macp keys check keys.json                      what a start would say about AUTH_API_KEYS_FILE

An entry holds the SHA-256 of a key and never the key: the list and the file can be read without giving anything away.
Callers send the key as `Authorization: Bearer KEY`. Whose data they see, and what they may do, is up to the entry:

  tenant   whose runs, webhooks, audit entries, ... it reaches; `default` when it is left out. A tenant is there as soon
           as a key names it. What all tenants share (/admin, registering policies) is for keys of `default` only.
  scopes   read, write (and read), admin (everything), or runs:read, runs:write, webhooks:read, ... as the routes of
           GET /docs-json ask for; everything when it is left out.
  expires  a date or time in UTC; from then on the key is refused, and event streams that were opened with it end.]],
  verbs = { "new", "hash", "check" },
  config = false,
}
