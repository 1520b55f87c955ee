-- Static tokens: a JSON list of credentials and what each may do. Only digests are kept, so that looking one up never
-- depends on how much of a guess is right, and nothing that is printed can hold a token.

local crypto = require("host.crypto")

local capabilities = require("macp.auth.capabilities")
local json = require("macp.core.json")

local find = string.find
local sha256 = crypto.sha256

local M = {}

local function problem(i, text) return string.format("tokens[%d]: %s", i, text) end

local function check_entry(i, entry)
  if type(entry) ~= "table" or json.is_array(entry) then return problem(i, "must be an object") end
  if type(entry.token) ~= "string" or not entry.token:find("%S") then
    return problem(i, "token must be a non-empty string")
  end
  local text = capabilities.sender_problem(entry.sender)
  if text then return problem(i, "sender " .. text) end
  text = capabilities.problem(entry)
  return text and problem(i, text)
end

---Reads a token document: an array, or an object with member `tokens`. Unknown members are ignored.
---@param text string JSON
---@return table[]|nil entries, string? reason never holds any part of the document
function M.parse(text)
  local document, err = json.decode(text)
  if document == nil then return nil, err.message end
  local list = document
  if type(document) == "table" and not json.is_array(document) then list = document.tokens end
  if type(list) ~= "table" or not json.is_array(list) then
    return nil, "must be an array of tokens or an object with the member tokens"
  end
  for i, entry in ipairs(list) do
    local reason = check_entry(i, entry)
    if reason then return nil, reason end
  end
  return list
end

---Numbers of the entries whose token holds a dot: no credential with a dot is ever looked up here.
---@param entries table[]
---@return integer[]
function M.dotted(entries)
  local numbers = {}
  for i, entry in ipairs(entries) do
    if entry.token:find(".", 1, true) then numbers[#numbers + 1] = i end
  end
  return numbers
end

local Static = { name = "static" }
Static.__index = Static

---Puts other entries in the place of all; the last of equal tokens wins.
---@param entries table[]
function Static:replace(entries)
  local by_digest, count = {}, 0
  for _, entry in ipairs(entries) do
    local digest = sha256(entry.token)
    if by_digest[digest] == nil then count = count + 1 end
    by_digest[digest] = capabilities.identity(entry.sender, entry)
  end
  self.by_digest, self.count = by_digest, count
end

---Claims every credential without a dot, whichever header brought it.
---@param credential string
---@return macp.auth.Identity|nil identity, string? reason nothing when the credential is not of this kind
function Static:resolve(credential)
  if find(credential, ".", 1, true) then return nil end
  local identity = self.by_digest[sha256(credential)]
  if identity == nil then return nil, "unknown token" end
  return identity
end

---A resolver of the chain over parsed entries.
---@param entries table[]
function M.new(entries)
  local static = setmetatable({}, Static)
  static:replace(entries)
  return static
end

return M
