-- The files of a macp-runtime data directory: `sessions/<id>/log.jsonl` and `session.json`, or the older
-- `sessions.json` and `logs.json`. Read only.

local fs = require("host.fs")
local host_log = require("host.log")

local json = require("macp.core.json")

local KNOWN_VERSION = 3
local MAX_BYTES = 1024 * 1024 * 1024

local M = {}

local function exists(path) return fs.stat(path) ~= nil end

---Whether a directory holds sessions of macp-runtime. (yields)
function M.is_there(dir)
  return exists(dir .. "/sessions") or exists(dir .. "/sessions.json") or exists(dir .. "/logs.json")
end

-- A whole JSON file; nil, nil when there is none. (yields)
local function read_json(path)
  if not exists(path) then return nil end
  local text, err = fs.read(path, MAX_BYTES)
  if text == nil then return nil, path .. ": " .. err.message end
  local value, problem = json.decode(text)
  if value == nil then return nil, path .. ": " .. problem.message end
  if type(value) ~= "table" or json.is_array(value) then return nil, path .. ": a JSON object expected" end
  return value
end

---Refuses a directory that a newer program has written. (yields)
---@return true|nil, string? problem
function M.check_version(dir)
  local found, problem = read_json(dir .. "/storage_version.json")
  if problem then return nil, problem end
  local version = found and found.version or KNOWN_VERSION
  if type(version) ~= "number" or version > KNOWN_VERSION then
    return nil, string.format("%s/storage_version.json: version %s, known are those up to %d", dir, tostring(version),
      KNOWN_VERSION)
  end
  return true
end

-- The entries of a log, one JSON object per line. What follows the last line end was never acknowledged. (yields)
local function read_log(path)
  if not exists(path) then return {} end
  local text, err = fs.read(path, MAX_BYTES)
  if text == nil then return nil, path .. ": " .. err.message end
  local entries, number = {}, 0
  for line, ending in text:gmatch("([^\n]*)(\n?)") do
    number = number + 1
    if line:find("%S") then
      local entry, problem = json.decode(line)
      local is_torn = entry == nil and ending == ""
      if is_torn then
        host_log.warn("import.torn_line", { path = path, line = number })
      elseif type(entry) ~= "table" or json.is_array(entry) then
        local what = problem and problem.message or "a JSON object expected"
        return nil, string.format("%s:%d: %s", path, number, what)
      else
        entries[#entries + 1] = entry
        entries[#entries].where = string.format("%s:%d", path, number)
      end
    end
  end
  return entries
end

-- Sessions of the one-file layout, as { id, read } items. (yields)
local function list_legacy(dir)
  local snapshots, problem = read_json(dir .. "/sessions.json")
  if problem then return nil, problem end
  local logs
  logs, problem = read_json(dir .. "/logs.json")
  if problem then return nil, problem end
  local items, path = {}, dir .. "/logs.json"
  for id, entries in pairs(logs or {}) do
    if type(entries) ~= "table" then return nil, string.format("%s: %s: an array expected", path, id) end
    items[#items + 1] = { id = id, read = function()
      for i, entry in ipairs(entries) do
        if type(entry) ~= "table" then return nil, string.format("%s: %s[%d]: an object expected", path, id, i) end
        entry.where = string.format("%s: %s[%d]", path, id, i)
      end
      return entries, snapshots and snapshots[id]
    end }
  end
  return items
end

---The sessions of a directory, sorted by id. Each is read when asked: read() (yields) -> entries, snapshot | nil,
---problem. An entry is the decoded JSON object and `where`. (yields)
---@return { id: string, read: fun(): table|nil, table|string|nil }[]|nil items, string? problem
function M.list(dir)
  local items, problem
  if exists(dir .. "/sessions") then
    local found, err = fs.list(dir .. "/sessions")
    if found == nil then return nil, dir .. "/sessions: " .. err.message end
    items = {}
    for _, entry in ipairs(found) do
      local base = dir .. "/sessions/" .. entry.name
      if entry.type == "dir" then
        items[#items + 1] = { id = entry.name, read = function()
          local entries, why = read_log(base .. "/log.jsonl")
          if entries == nil then return nil, why end
          local snapshot
          snapshot, why = read_json(base .. "/session.json")
          if why then return nil, why end
          return entries, snapshot
        end }
      end
    end
  else
    items, problem = list_legacy(dir)
    if items == nil then return nil, problem end
  end
  table.sort(items, function(a, b) return a.id < b.id end)
  return items
end

return M
