-- Archive: the sources of every revision that ever served, by hash. A store is { put(hash, files, meta), get(hash) };
-- here are the one in memory and the one in a directory. The plane brings its own, a table.

local fs = require("host.fs")
local json = require("host.json")

local MAX_BYTES = 16 * 1048576

local M = {}

local Memory = {}
Memory.__index = Memory

---A store that lives as long as the process.
function M.memory()
  return setmetatable({ kept = {} }, Memory)
end

function Memory:put(hash, files)
  self.kept[hash] = self.kept[hash] or files
  return true
end

function Memory:get(hash)
  local files = self.kept[hash]
  if files then return files end
  return nil, { code = "NOT_FOUND", message = "the archive has no revision " .. hash }
end

local Files = {}
Files.__index = Files

---A store below a directory: one JSON file per revision, written once.
---@param dir string
function M.files(dir)
  return setmetatable({ dir = dir:gsub("/+$", ""), known = {} }, Files)
end

local function path_of(self, hash)
  local digits = hash:match("^sha256:(%x+)$")
  if not digits or #digits ~= 64 then return nil end
  return self.dir .. "/" .. digits .. ".json"
end

---Writes a revision unless it is there. (yields)
function Files:put(hash, files, meta)
  if self.known[hash] then return true end
  local path = path_of(self, hash)
  if not path then return nil, { code = "INVALID", message = "not a revision hash: " .. tostring(hash) } end
  if fs.stat(path) == nil then
    local ok, err = fs.mkdir_p(self.dir)
    if not ok then return nil, err end
    ok, err = fs.write(path, json.encode({ revision = hash, meta = meta or {}, files = files }, { sorted = true }))
    if not ok then return nil, err end
  end
  self.known[hash] = true
  return true
end

---Reads a revision. (yields)
function Files:get(hash)
  local path = path_of(self, hash)
  if not path then return nil, { code = "INVALID", message = "not a revision hash: " .. tostring(hash) } end
  local text, err = fs.read(path, MAX_BYTES)
  if text == nil then
    return nil, { code = err.code, message = "the archive has no revision " .. hash .. " (" .. tostring(err.message)
      .. ")" }
  end
  local doc, problem = json.decode(text)
  if type(doc) ~= "table" or type(doc.files) ~= "table" then
    return nil, { code = "CORRUPT", message = path .. ": " .. tostring(problem and problem.message
      or "not an archived revision") }
  end
  return doc.files
end

return M
