-- Table mode_revisions: the sources of every mode revision, by content hash. This is the archive that the mode
-- registry of the control plane writes to and reads pinned revisions from.

local crypto = require("host.crypto")
local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")

local PUT = [[
insert into mode_revisions (tenant, hash, files, meta) values ($1, $2, $3, $4)
on conflict (tenant, hash) do nothing]]

-- mode_revisions_pkey
local GET = "select files from mode_revisions where tenant = $1 and hash = $2"

---@class macp.store.Archive
local Archive = {}
Archive.__index = Archive

local M = {}

---@param db table pool
---@param tenant string
function M.archive(db, tenant)
  return setmetatable({ db = db, tenant = tenant }, Archive)
end

---Stores the files of a revision; storing them again changes nothing. (yields)
---@param hash string
---@param files table<string, string> path -> text
---@param meta table|nil plain data
---@return true|nil
---@return table|nil err
function Archive:put(hash, files, meta)
  local encoded = json.object({})
  for path, text in pairs(files) do encoded[path] = crypto.base64_encode(text) end
  local done, err = db_door.exec(self.db, PUT, self.tenant, hash, pg.bytea(json.canonical(encoded)),
    json.encode(meta or json.object({})))
  if done == nil then return nil, err end
  return true
end

---The files of a revision, nil when it is not here. (yields)
---@param hash string
---@return table<string, string>|nil
---@return table|nil err
function Archive:get(hash)
  local row, err = db_door.one(self.db, GET, self.tenant, hash)
  if not row then return nil, err end
  local files, decode_err = json.decode(row.files)
  if files == nil then return nil, decode_err end
  for path, text in pairs(files) do files[path] = crypto.base64_decode(text) end
  return files
end

return M
