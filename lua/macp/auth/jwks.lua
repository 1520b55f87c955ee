-- Documents of keys (JWK Set, RFC 7517 section 5): usable keys are taken, others skipped with the reason.

local crypto = require("host.crypto")
local jws = require("host.jws")

local json = require("macp.core.json")

local MAX_TOLD = 5 -- reasons in one message

local M = { MAX_BYTES = 256 * 1024 }

---Reads a document `{ "keys": [...] }`.
---@param text string JSON
---@return { keys: table, digest: string, count: integer, skipped: string[] }|nil set
---@return string? reason never holds any part of the document
function M.parse(text)
  if #text > M.MAX_BYTES then return nil, "has more than " .. M.MAX_BYTES .. " bytes" end
  local document, err = json.decode(text)
  if document == nil then return nil, "must be JSON: " .. err.message end
  local list = type(document) == "table" and not json.is_array(document) and document.keys or nil
  if type(list) ~= "table" or not json.is_array(list) then return nil, "must be an object with an array `keys`" end
  local keys, skipped = jws.keys(), {}
  for i, jwk in ipairs(list) do
    local ok, reason = nil, "must be an object"
    if type(jwk) == "table" and not json.is_array(jwk) then
      local problem
      ok, problem = keys:add(jwk)
      reason = problem and problem.message
    end
    if not ok then skipped[#skipped + 1] = string.format("keys[%d]: %s", i, reason) end
  end
  if keys:count() == 0 then
    local told = table.concat(skipped, "; ", 1, math.min(#skipped, MAX_TOLD))
    return nil, "has no usable key" .. (told ~= "" and " (" .. told .. ")" or "")
  end
  return { keys = keys, digest = crypto.sha256(json.canonical(document)), count = keys:count(), skipped = skipped }
end

return M
