-- `macp keys new`: a key that nobody has, and its entry. Exit codes: 0 done, 3 usage.

local crypto = require("host.crypto")

local console = require("macp.core.console")
local key_entry = require("macp.cmd.shared.key_entry")

local BYTES = 32

local M = {
  summary = "Make a key and the entry that lets it in.",
  help = [[
  macp keys new ops                                       everything in the tenant `default`, for ever
  macp keys new acme-ci --tenant acme --scopes read       only reading, only what belongs to acme
  macp keys new guest --scopes runs:read --expires 30d    for 30 days

Prints the key, which is stored nowhere, then its entry for AUTH_API_KEYS (several with commas between them) and for the
list `keys` of AUTH_API_KEYS_FILE, which is read again when it changes. NAME is shown in logs and audit entries.]],
  options = key_entry.OPTIONS,
  arguments = { { name = "NAME", required = true, doc = "Who it is for: 1 to 64 of a-z, A-Z, 0-9, ., _ and -." } },
  config = false,
}

---Prints a new key and its entry. Returns the exit code, or nil, err.
function M.run(opts)
  local key = "macp_" .. crypto.base64url_encode(crypto.random(BYTES))
  local object, item = key_entry.make(key, opts)
  if object == nil then return nil, { code = "USAGE", message = item } end
  console.print("key: " .. key)
  key_entry.print(object, item)
  return 0
end

return M
