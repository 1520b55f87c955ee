-- Files of the source tree, for specs that look at all of them.

local M = {}

---The whole text of a file.
---@param path string
---@return string
function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

---Paths of the files below folders, ascending; folders that are not there hold none.
---@param dirs string[]
---@param pattern string that paths match
---@return string[]
function M.files(dirs, pattern)
  local list = {}
  for _, dir in ipairs(dirs) do
    if require("pl.path").isdir(dir) then
      for _, path in ipairs(require("pl.dir").getallfiles(dir)) do
        path = path:gsub("^%./", "")
        if path:find(pattern) then list[#list + 1] = path end
      end
    end
  end
  table.sort(list)
  return list
end

---Texts of the same files by path.
---@return table<string, string>
function M.texts(dirs, pattern)
  local texts = {}
  for _, path in ipairs(M.files(dirs, pattern)) do texts[path] = M.read(path) end
  return texts
end

return M
