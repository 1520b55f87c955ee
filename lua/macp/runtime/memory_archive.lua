-- The archive of mode revisions of a runtime that keeps nothing: the same interface as archive.lua, in memory.

local Archive = {}
Archive.__index = Archive

local M = {}

---An archive that holds nothing.
function M.new() return setmetatable({ revisions = {} }, Archive) end

function Archive:put(hash, files)
  self.revisions[hash] = files
  return true
end

function Archive:get(hash)
  local files = self.revisions[hash]
  if files == nil then return nil, { code = "NOT_FOUND", message = "revision " .. hash .. " is not archived" } end
  return files
end

---Drops a revision that no session can ask for.
function Archive:forget(hash) self.revisions[hash] = nil end

return M
