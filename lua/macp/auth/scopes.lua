-- What an actor may do. A scope is `noun:verb`; `noun:*` grants every verb of a noun and `*` everything. Key entries may
-- also say `read`, `write` (and read) or `admin` (everything).

local suggest = require("macp.core.suggest")

-- Every scope that a route asks for; a spec compares.
local KNOWN = {
  "runs:read", "runs:write", "runtime:read", "runtime:write", "webhooks:read", "webhooks:write", "modes:read",
  "audit:read", "admin:read", "admin:write",
}

-- What all tenants share: the process, the modes and policies of the runtime. Only keys of the first tenant come here.
local SHARED = { ["admin:read"] = true, ["admin:write"] = true, ["runtime:write"] = true }

local M = { KNOWN = KNOWN }

---@param actor { scopes: table<string, boolean>|nil } without scopes everything is allowed
---@param scope string|nil
---@return boolean
function M.allows(actor, scope)
  local granted = actor.scopes
  if granted == nil or scope == nil then return true end
  if granted[scope] or granted["*"] then return true end
  local noun = scope:match("^([^:]+):")
  return noun ~= nil and granted[noun .. ":*"] == true
end

---Does a scope reach what all tenants share?
---@param scope string|nil
---@return boolean
function M.is_shared(scope) return SHARED[scope] == true end

local function known_words()
  local words, seen = { "read", "write", "admin" }, {}
  for _, scope in ipairs(KNOWN) do
    local noun = scope:match("^[^:]+")
    if not seen[noun] then
      words[#words + 1], seen[noun] = noun .. ":*", true
    end
    words[#words + 1] = scope
  end
  return words
end

-- The scopes that a word stands for, nil for an unknown one.
local function meaning(word)
  local found = {}
  for _, scope in ipairs(KNOWN) do
    local noun, verb = scope:match("^([^:]+):(.+)$")
    local fits = word == scope or word == noun .. ":*" or word == "admin"
      or (word == "write" and noun ~= "admin") or (word == "read" and verb == "read" and noun ~= "admin")
    if fits then found[#found + 1] = scope end
  end
  return #found > 0 and found or nil
end

---Reads the words of a key entry.
---@param words string[]
---@return table<string, boolean>|nil granted
---@return string? reason
function M.read(words)
  local granted = {}
  for _, word in ipairs(words) do
    local scopes = meaning(word)
    if scopes == nil then
      local known = known_words()
      return nil, string.format("%q is no scope%s; there are %s", word, suggest.hint(word, known),
        table.concat(known, ", "))
    end
    for _, scope in ipairs(scopes) do granted[scope] = true end
  end
  return granted
end

return M
