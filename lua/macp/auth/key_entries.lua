-- How API keys are written down: items of a comma list and objects of a JSON file, both read into one form.
--
--   a-plain-key                                                        the key itself: everything, for ever
--   ops:sha256:<64 hex>;tenant=acme;scopes=read+webhooks:write;expires=2027-01-31
--   { "keys": [ { "name": "ops", "sha256": "<64 hex>", "tenant": "acme", "scopes": ["read"], "expires": "2027-01-31" } ] }
--
-- Nothing that is told of a bad entry holds any part of a key.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")
local time = require("macp.core.time")
local scopes = require("macp.auth.scopes")
local tenants = require("macp.core.tenants")

local MAX_NAME = 64
local OPTIONS = { "tenant", "scopes", "expires" }
local MEMBERS = { "name", "sha256", "tenant", "scopes", "expires" }

---@class macp.KeyEntry
---@field digest string SHA-256 of the key, raw
---@field name string|nil nil: a plain key
---@field tenant string
---@field scopes table<string, boolean>|nil nil: everything that its tenant may do
---@field expires_ms integer|nil
---@field where string for messages

local M = { MAX_BYTES = 1048576 }

-- What is wrong with a name, or nil. It is shown in logs and audit entries, where plain keys are eight hex digits.
local function name_problem(name)
  if type(name) ~= "string" or #name > MAX_NAME or not name:find("^[%w._-]+$") then
    return "name: expected 1 to " .. MAX_NAME .. " of a-z, A-Z, 0-9, ., _ and -"
  end
  if name:find("^%x%x%x%x%x%x%x%x$") then
    return "name: expected something else than 8 hexadecimal digits, which stand for keys without a name"
  end
  if name == "anonymous" then
    return 'name: expected something else than "anonymous", which stands for callers without a key'
  end
  return nil
end

-- The scopes of a tenant's key; what all tenants share is for the first tenant only.
local function read_scopes(words, tenant)
  local granted, reason = scopes.read(words)
  if granted == nil then return nil, "scopes: " .. reason end
  if tenant == tenants.FIRST then return granted end
  for _, word in ipairs(words) do
    if word:find("^admin") or scopes.is_shared(word) then
      return nil, string.format("scopes: %s reaches what all tenants share: it is for keys of the tenant %q", word,
        tenants.FIRST)
    end
  end
  return granted
end

-- An entry of texts that were found somewhere; scopes is a list of words.
local function make(where, fields)
  local problem = name_problem(fields.name)
  if problem then return nil, where .. ": " .. problem end
  where = where .. " (" .. fields.name .. ")"
  if type(fields.sha256) ~= "string" or not fields.sha256:find("^" .. ("%x"):rep(64) .. "$") then
    return nil, where .. ": sha256: expected 64 hexadecimal digits"
  end
  local tenant = fields.tenant == nil and tenants.FIRST or fields.tenant
  problem = tenants.problem(tenant)
  if problem then return nil, where .. ": tenant: " .. problem end
  local granted, expires_ms
  if fields.scopes then
    granted, problem = read_scopes(fields.scopes, tenant)
    if granted == nil then return nil, where .. ": " .. problem end
  end
  if fields.expires ~= nil then
    expires_ms = time.parse_iso(fields.expires)
    if expires_ms == nil then
      return nil, where .. ": expires: expected a date like 2027-01-31 or 2027-01-31T12:00:00Z, in UTC"
    end
  end
  return { digest = crypto.unhex(fields.sha256), name = fields.name, tenant = tenant, scopes = granted,
    expires_ms = expires_ms, where = where }
end

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("([^" .. separator .. "]*)" .. separator) do parts[#parts + 1] = part end
  return parts
end

-- An item of the list that is no plain key.
local function read_item(where, name, rest)
  local parts = split(rest, ";")
  local fields = { name = name, sha256 = parts[1] }
  for i = 2, #parts do
    local key, value = parts[i]:match("^%s*(%a+)=(.-)%s*$")
    if key == nil or not tables.set(OPTIONS)[key] then
      return nil, string.format("%s: option %d: expected tenant=, scopes= or expires=%s", where, i - 1,
        key and suggest.hint(key, OPTIONS) or "")
    end
    if fields[key] ~= nil then return nil, string.format("%s: %s is given twice", where, key) end
    fields[key] = value
  end
  if fields.scopes then fields.scopes = split(fields.scopes, "+") end
  return make(where, fields)
end

---Reads the items of a comma list.
---@param items string[]
---@param origin string for messages
---@return macp.KeyEntry[]|nil
---@return string? reason
function M.of_list(items, origin)
  local entries = {}
  for i, item in ipairs(items) do
    local where = string.format("%s, entry %d", origin, i)
    local name, rest = item:match("^([^:]*):sha256:(.*)$")
    if name == nil then
      entries[i] = { digest = crypto.sha256(item), tenant = tenants.FIRST, where = where }
    else
      local reason
      entries[i], reason = read_item(where, name, rest)
      if entries[i] == nil then return nil, reason end
    end
  end
  return entries
end

local function check_members(object, known)
  for _, member in ipairs(tables.sorted_keys(object)) do
    if not tables.set(known)[member] then
      return string.format("unknown member %q%s", tostring(member), suggest.hint(tostring(member), known))
    end
  end
  return nil
end

local function is_object(value) return type(value) == "table" and not json.is_array(value) end

local function read_object(where, object)
  if not is_object(object) then return nil, where .. ": expected an object" end
  local problem = check_members(object, MEMBERS)
  if problem then return nil, where .. ": " .. problem end
  local fields = {}
  for _, member in ipairs(MEMBERS) do fields[member] = json.absent(object[member]) end
  if fields.scopes ~= nil then
    if not json.is_array(fields.scopes) then return nil, where .. ": scopes: expected an array of texts" end
    for _, word in ipairs(fields.scopes) do
      if type(word) ~= "string" then return nil, where .. ": scopes: expected an array of texts" end
    end
  end
  return make(where, fields)
end

---Reads a keys file.
---@param text string
---@param origin string for messages
---@return macp.KeyEntry[]|nil
---@return string? reason
function M.of_file(text, origin)
  local document, err = json.decode(text)
  if document == nil then return nil, origin .. ": expected JSON: " .. tostring(err and err.message or err) end
  if not is_object(document) or not json.is_array(document.keys) then
    return nil, origin .. ': expected an object { "keys": [...] }'
  end
  local problem = check_members(document, { "keys" })
  if problem then return nil, origin .. ": " .. problem end
  local entries = {}
  for i, object in ipairs(document.keys) do
    local reason
    entries[i], reason = read_object(string.format("%s: keys[%d]", origin, i), object)
    if entries[i] == nil then return nil, reason end
  end
  return entries
end

---Entries of several places as one list. The same plain key may be written twice; anything else may not.
---@param ... macp.KeyEntry[]
---@return macp.KeyEntry[]|nil
---@return string? reason
function M.join(...)
  local joined, names, digests = {}, {}, {}
  for _, entries in ipairs({ ... }) do
    for _, entry in ipairs(entries) do
      local same = digests[entry.digest]
      if same and (same.name or entry.name) then
        return nil, entry.where .. ": the same key as " .. same.where
      end
      if entry.name and names[entry.name] then
        return nil, entry.where .. ": the same name as " .. names[entry.name].where
      end
      if not same then joined[#joined + 1] = entry end
      digests[entry.digest], names[entry.name or false] = entry, entry
    end
  end
  return joined
end

return M
