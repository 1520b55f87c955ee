-- The archive of mode revisions in a journal of its own: the same interface as archive.lua, for stores that several
-- machines reach. One log per revision: what it is for people, then path and text of each file.

local fault = require("macp.core.fault")
local json = require("macp.core.json")
local tables = require("macp.core.tables")

local PORTION = 64 -- records of one read; a journal bounds the bytes by itself

local Archive = {}
Archive.__index = Archive

local M = {}

---@param journal table host.journal; it stays the caller's
function M.new(journal) return setmetatable({ journal = journal }, Archive) end

local function key_of(hash) return "revision:" .. hash end

---Stores the files of a revision. An existing one is left alone: a hash has one content. (yields)
---@param hash string
---@param files table<string, string> relative path -> text
---@param meta table plain data for people
---@return true|nil, table? err
function Archive:put(hash, files, meta)
  if self.journal:count(key_of(hash)) > 0 then return true end
  local records = { json.encode(meta, { sorted = true }) }
  for _, path in ipairs(tables.sorted_keys(files)) do
    records[#records + 1] = path
    records[#records + 1] = files[path]
  end
  fault("archive.before")
  local ok, err = self.journal:replace(key_of(hash), records)
  fault("archive.after")
  return ok, err
end

---The files of a revision. (yields)
---@return table<string, string>|nil files, table? err NOT_FOUND, or what the journal says
function Archive:get(hash)
  local count = self.journal:count(key_of(hash))
  if count == 0 then return nil, { code = "NOT_FOUND", message = "revision " .. hash .. " is not archived" } end
  local records = {}
  while #records < count do
    local part, err = self.journal:read(key_of(hash), #records + 1, PORTION)
    if part == nil then return nil, err end
    if #part == 0 then return nil, { code = "CORRUPT", message = "revision " .. hash .. " is not complete" } end
    for _, record in ipairs(part) do records[#records + 1] = record end
  end
  local files = {}
  for i = 2, #records, 2 do files[records[i]] = records[i + 1] end
  return files
end

return M
