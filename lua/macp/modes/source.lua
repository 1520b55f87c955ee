-- Source: the files of a mode folder, from disk or from the copies inside the program, and the hashes that name them.

local crypto = require("host.crypto")
local embed = require("host.embed")
local fs = require("host.fs")

local API = 1
local MAX_FILE_BYTES = 1048576
local MAX_FILES = 512
local PRESENTATION = { "normalizer.lua", "reducer.lua", "webhook.lua", "routes.lua" }
local KNOWN = { ["mode.lua"] = true }
for _, name in ipairs(PRESENTATION) do KNOWN[name] = true end

local M = {}

local function sorted_names(files, wanted)
  local names = {}
  for name in pairs(files) do
    if wanted(name) then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function is_lib(name)
  return name:find("^lib/[%w_]+%.lua$") ~= nil
end

local function is_fixture(name)
  return name:find("^fixtures/[^/]+%.lua$") ~= nil or name:find("^fixtures/[^/]+%.json$") ~= nil
end

local function hash_of(files, names)
  local parts = { "macp-mode/" .. API .. "\n" }
  for _, name in ipairs(names) do
    local text = files[name]
    parts[#parts + 1] = name .. "\0" .. #text .. "\0" .. text
  end
  return "sha256:" .. crypto.sha256_hex(table.concat(parts))
end

-- lib files that some texts require, and those require in turn.
local function required_libs(files, names)
  local found, queue = {}, {}
  for _, name in ipairs(names) do queue[#queue + 1] = name end
  while #queue > 0 do
    local text = files[table.remove(queue)]
    for lib in text:gmatch("require%s*%(?%s*[\"']lib%.([%w_]+)[\"']") do
      local path = "lib/" .. lib .. ".lua"
      if files[path] and not found[path] then
        found[path] = true
        queue[#queue + 1] = path
      end
    end
  end
  return found
end

---The hash of the rules: mode.lua and lib/*.lua.
function M.rules_hash(files)
  return hash_of(files, sorted_names(files, function(name) return name == "mode.lua" or is_lib(name) end))
end

---The hash of the presentation files and the libs they require.
function M.presentation_hash(files)
  local views = sorted_names(files, function(name) return KNOWN[name] and name ~= "mode.lua" end)
  local libs = required_libs(files, views)
  return hash_of(files, sorted_names(files, function(name)
    return (KNOWN[name] and name ~= "mode.lua") or libs[name]
  end))
end

---The hash of everything, fixtures included: equal hashes need no second look.
function M.folder_hash(files)
  return hash_of(files, sorted_names(files, function() return true end))
end

---Fixture names in order.
function M.fixtures(files)
  return sorted_names(files, is_fixture)
end

local function read_into(files, dir, prefix, accept)
  local entries, err = fs.list(dir)
  if entries == nil then return nil, err end
  local count = 0
  for _, entry in ipairs(entries) do
    local name = prefix .. entry.name
    if entry.type ~= "dir" and accept(name) then
      count = count + 1
      if count > MAX_FILES then return nil, { code = "LIMIT", message = "more than " .. MAX_FILES .. " files in "
        .. dir } end
      local text, problem = fs.read(dir .. "/" .. entry.name, MAX_FILE_BYTES)
      if text == nil then return nil, problem end
      files[name] = text
    end
  end
  return true
end

---Reads a folder. (yields)
---@param dir string path of the mode folder
---@return table|nil files by relative path; nil, err when the folder cannot be read or has no mode.lua
function M.read(dir)
  dir = dir:gsub("/+$", "")
  local folder = fs.stat(dir)
  if folder == nil or folder.type ~= "dir" then
    return nil, { code = "NOT_FOUND", message = dir .. " is not a folder" }
  end
  local files = {}
  local ok, err = read_into(files, dir, "", function(name) return KNOWN[name] end)
  if not ok then return nil, err end
  if not files["mode.lua"] then
    return nil, { code = "NOT_FOUND", message = dir .. " has no mode.lua" }
  end
  for prefix, accept in pairs({ lib = is_lib, fixtures = is_fixture }) do
    local stat = fs.stat(dir .. "/" .. prefix)
    if stat then
      ok, err = read_into(files, dir .. "/" .. prefix, prefix .. "/", accept)
      if not ok then return nil, err end
    end
  end
  return files
end

---Lua files of a folder that nobody reads, such as a misspelt normalizer.lua; sorted. (yields)
function M.strangers(dir)
  local out = {}
  for prefix, is_read in pairs({ [""] = function(name) return KNOWN[name] end, ["lib/"] = is_lib }) do
    for _, entry in ipairs(fs.list(dir .. "/" .. prefix) or {}) do
      local name = prefix .. entry.name
      if entry.type ~= "dir" and name:find("%.lua$") and not is_read(name) then out[#out + 1] = name end
    end
  end
  table.sort(out)
  return out
end

---The files that a folder may have besides lib/ and fixtures/.
M.NAMES = { "mode.lua", unpack(PRESENTATION) }

---Folders below a directory that hold a mode.lua: { { name =, path = } ... } sorted. (yields)
function M.folders(dir)
  local entries, err = fs.list(dir)
  if entries == nil then return nil, err end
  local out = {}
  for _, entry in ipairs(entries) do
    local path = dir:gsub("/+$", "") .. "/" .. entry.name
    local is_dir = entry.type == "dir"
    if entry.type == "link" then
      local target = fs.stat(path)
      is_dir = target ~= nil and target.type == "dir"
    end
    if is_dir and fs.stat(path .. "/mode.lua") then out[#out + 1] = { name = entry.name, path = path } end
  end
  return out
end

---Names of the folders inside the program.
function M.embedded_folders()
  local out = {}
  for _, path in ipairs(embed.list("modes/")) do
    local name = path:match("^modes/([^/]+)/mode%.lua$")
    if name then out[#out + 1] = name end
  end
  return out
end

---Files of a folder inside the program, without fixtures.
function M.embedded(name)
  local prefix, files = "modes/" .. name .. "/", {}
  for _, path in ipairs(embed.list(prefix)) do
    local relative = path:sub(#prefix + 1)
    if KNOWN[relative] or is_lib(relative) then files[relative] = embed.read(path) end
  end
  return files
end

---The text of one of our own files; from the tree of MACP_ROOT when that is set.
function M.own(path)
  local root = embed.root()
  if root then
    local file = io.open(root .. "/" .. path, "rb")
    if file then
      local text = file:read("*a")
      file:close()
      return text
    end
  end
  return embed.read(path)
end

return M
