-- The entry of an API key in both of its spellings, for those who put it where keys are read from.

local crypto = require("host.crypto")
local sys = require("host.sys")

local console = require("macp.core.console")
local json = require("macp.core.json")
local time = require("macp.core.time")
local key_entries = require("macp.auth.key_entries")

local DAY_MS = 86400000

local M = {}

M.OPTIONS = {
  { name = "tenant", value = "NAME", doc = "Whose data the key reaches; `default` without it." },
  { name = "scopes", value = "LIST", doc = "What it may do, comma separated: read, write, admin, runs:read, ..." },
  { name = "expires", value = "WHEN", doc = "A date or time in UTC, or a number of days like 90d." },
}

-- "90d" as a date, everything else as it is.
local function expiry_of(text)
  local days = text and text:match("^(%d+)d$")
  return days and #days < 6 and time.iso(sys.now_ms() + tonumber(days) * DAY_MS) or text
end

-- One item of the comma list.
local function item_of(object)
  local parts = { object.name .. ":sha256:" .. object.sha256 }
  if object.tenant then parts[#parts + 1] = "tenant=" .. object.tenant end
  if object.scopes then parts[#parts + 1] = "scopes=" .. table.concat(object.scopes, "+") end
  if object.expires then parts[#parts + 1] = "expires=" .. object.expires end
  return table.concat(parts, ";")
end

---The entry of a key: an object for a keys file, and the same as an item of the comma list.
---@param key string
---@param opts { args: string[], tenant: string|nil, scopes: string|nil, expires: string|nil }
---@return table|nil object
---@return string item, or what is wrong
function M.make(key, opts)
  local object = { name = opts.args[1], sha256 = crypto.hex(crypto.sha256(key)), tenant = opts.tenant,
    expires = expiry_of(opts.expires) }
  if opts.scopes then
    object.scopes = json.array({})
    for word in opts.scopes:gmatch("[^,+%s]+") do table.insert(object.scopes, word) end
  end
  local item = item_of(object)
  local _, problem = key_entries.of_file(json.encode({ keys = json.array({ object }) }), "keys")
  if problem then return nil, (problem:gsub("^keys: keys%[1%][^:]*: ", "")) end
  return object, item
end

---Prints both spellings.
function M.print(object, item)
  console.print("AUTH_API_KEYS=" .. item)
  console.print("AUTH_API_KEYS_FILE: " .. json.encode(object, { sorted = true }))
end

return M
