-- Where revisions of modes are kept for as long as sessions refer to them: <dir>/<hash>/files, content addressed.

local fs = require("host.fs")

local fault = require("macp.core.fault")
local json = require("macp.core.json")

local META = "meta.json"

local Archive = {}
Archive.__index = Archive

local M = {}

-- "sha256:ab12..." -> "sha256-ab12...": a portable file name.
local function dir_of(archive, hash) return archive.dir .. "/" .. (hash:gsub("[^%w]", "-")) end

---@param dir string created when the first revision is put
function M.new(dir) return setmetatable({ dir = dir }, Archive) end

---Stores the files of a revision. An existing one is left alone: a hash has one content. (yields)
---@param hash string
---@param files table<string, string> relative path -> text
---@param meta table plain data for people
---@return true|nil, table? err
function Archive:put(hash, files, meta)
  local target = dir_of(self, hash)
  if fs.stat(target) then return true end
  local staging = target .. ".tmp"
  fs.remove_tree(staging)
  local ok, err = fs.mkdir_p(staging)
  for path, text in pairs(files) do
    local folder = path:match("^(.*)/[^/]+$")
    if ok and folder then ok, err = fs.mkdir_p(staging .. "/files/" .. folder) end
    if ok and not folder then ok, err = fs.mkdir_p(staging .. "/files") end
    if ok then ok, err = fs.write(staging .. "/files/" .. path, text, { sync = true }) end
  end
  if ok then ok, err = fs.write(staging .. "/" .. META, json.encode(meta, { sorted = true }), { sync = true }) end
  fault("archive.before")
  if ok then ok, err = fs.rename(staging, target) end
  fault("archive.after")
  if ok then return true end
  fs.remove_tree(staging)
  return nil, err
end

local function read_files(base, prefix, files)
  local entries, err = fs.list(base .. "/" .. prefix)
  if entries == nil then return nil, err end
  for _, entry in ipairs(entries) do
    local path = prefix .. entry.name
    if entry.type == "dir" then
      local ok, reason = read_files(base, path .. "/", files)
      if not ok then return nil, reason end
    else
      local text, reason = fs.read(base .. "/" .. path)
      if text == nil then return nil, reason end
      files[path] = text
    end
  end
  return true
end

---The files of a revision. (yields)
---@return table<string, string>|nil, table? err
function Archive:get(hash)
  local files = {}
  local ok, err = read_files(dir_of(self, hash) .. "/files", "", files)
  if not ok then return nil, err end
  return files
end

return M
