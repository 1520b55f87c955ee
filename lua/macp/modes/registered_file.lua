-- Where the modes that were registered or promoted over the wire are kept: one JSON document, replaced as a whole. A
-- store is { where, load() -> document or nil | nil, err; save(document) -> true | nil, err }.

local fs = require("host.fs")
local json = require("host.json")

local FORMAT = 1
local MAX_BYTES = 64 * 1048576

local M = { FORMAT = FORMAT }

local Memory = {}
Memory.__index = Memory

---A store that lives as long as the process.
function M.memory() return setmetatable({ where = "memory" }, Memory) end

function Memory:load() return self.document end

function Memory:save(document)
  self.document = document
  return true
end

local File = {}
File.__index = File

---A store in a file. A save that returned is on the disk; one that failed has changed nothing.
---@param path string
function M.file(path) return setmetatable({ where = path }, File) end

local function corrupt(path, reason)
  return nil, { code = "CORRUPT", message = string.format("%s: %s", path, reason) }
end

local function decode(where, text)
  local document, problem = json.decode(text)
  if type(document) ~= "table" then
    return corrupt(where, "not a JSON object" .. (problem and ": " .. problem.message or ""))
  end
  if document.format ~= FORMAT then
    return corrupt(where, string.format("'format' must be %d, not %s", FORMAT, tostring(document.format)))
  end
  if type(document.modes) ~= "table" then return corrupt(where, "'modes' must be an array") end
  return document
end

---The stored document; nil without an error when there is none. (yields)
function File:load()
  local text, err = fs.read(self.where, MAX_BYTES)
  if text == nil then
    if err.code == "NOT_FOUND" then return nil end
    return nil, err
  end
  return decode(self.where, text)
end

---Replaces the document. (yields)
function File:save(document)
  return fs.write(self.where, json.encode(document, { sorted = true, pretty = true }), { sync = true })
end

local Journal = {}
Journal.__index = Journal

---A store in a journal, as the log of one key.
---@param journal table host.journal; it stays the caller's
---@param key string
---@param where string what the journal is, for people
function M.journal(journal, key, where)
  return setmetatable({ journal = journal, key = key, where = where }, Journal)
end

---As that of a file. (yields)
function Journal:load()
  if self.journal:count(self.key) == 0 then return nil end
  local records, err = self.journal:read(self.key, 1, 1)
  if records == nil then return nil, err end
  return decode(self.where, records[1] or "")
end

---As that of a file. (yields)
function Journal:save(document)
  return self.journal:replace(self.key, { json.encode(document, { sorted = true }) })
end

return M
