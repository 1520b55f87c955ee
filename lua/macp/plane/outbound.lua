-- Addresses that callers name for calls from here: webhooks and cancel callbacks. A name is judged where the connection is
-- made, for what it leads to may change; an address can be judged when it is named.

local fetch = require("host.fetch")

local errors = require("macp.core.errors")

local M = {}

---Why an URL can never be called from here, nil when it may be.
---@param path string of the field that has it
---@param url string
---@param opts { allow_private: boolean, allow_hosts: string[] }
---@return macp.Error|nil VALIDATION_ERROR
function M.refusal(path, url, opts)
  if opts.allow_private or not fetch.names_closed_address(url) then return nil end
  local host = url:match("^%a+://%[?([^/?#%]]+)"):gsub(":%d*$", "")
  for _, allowed in ipairs(opts.allow_hosts) do
    if allowed:lower() == host:lower() then return nil end
  end
  return errors.validation({ { path = path, message = path .. " must not point to a private, loopback or metadata "
    .. "address" } })
end

return M
