-- What proves to a receiver who sends, and that nothing was changed or sent again later.

local crypto = require("host.crypto")

local M = {}

---Headers of a signed request.
--- `x-macp-signature`: hex HMAC-SHA256 of the body, as receivers of other control planes check it.
--- `x-macp-signature-256`: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`, with a second `v1` while a secret is
--- being exchanged: a receiver accepts a request when one of them fits and `t` is recent.
---@param secrets { secret: string, previous_secret: string|nil }
---@param unix_s integer
---@param body string
---@return table<string, string>
function M.headers(secrets, unix_s, body)
  local stamp = string.format("%d", unix_s)
  local signed = stamp .. "." .. body
  local value = "t=" .. stamp .. ",v1=" .. crypto.hmac_sha256_hex(secrets.secret, signed)
  if secrets.previous_secret then
    value = value .. ",v1=" .. crypto.hmac_sha256_hex(secrets.previous_secret, signed)
  end
  return {
    ["x-macp-signature"] = crypto.hmac_sha256_hex(secrets.secret, body), ["x-macp-timestamp"] = stamp,
    ["x-macp-signature-256"] = value,
  }
end

return M
