-- The keys of callers: those of AUTH_API_KEYS, and those of a file that is followed while the program runs. A file that
-- cannot be used stops the start; later on the last good one stays in use.

local log = require("host.log")

local api_key = require("macp.auth.api_key")
local errors = require("macp.core.errors")
local key_entries = require("macp.auth.key_entries")
local watched_file = require("macp.core.watched_file")

local LIST, FILE = "AUTH_API_KEYS", "AUTH_API_KEYS_FILE"

---@class macp.plane.ApiKeysSource
---@field resolver macp.ApiKeys
---@field rejected string|nil what is wrong with the file as it is now
local Source = {}
Source.__index = Source

local M = {}

-- All entries with those of the file's text; nil and what is wrong.
local function entries_of(listed, text)
  local from_file, reason = {}, nil
  if text then from_file, reason = key_entries.of_file(text, FILE) end
  if from_file == nil then return nil, reason end
  return key_entries.join(listed, from_file)
end

local function invalid(reason) return nil, errors.new("VALIDATION_ERROR", nil, reason) end

local function follow(self, listed, path)
  self.file:watch(function(text, err)
    local entries, reason
    if text then entries, reason = entries_of(listed, text) end
    if entries then
      self.rejected = nil
      self.resolver:replace(entries)
      log.info("keys.loaded", { path = path, count = #entries })
    else
      self.rejected = reason or FILE .. ": " .. err.message
      log.warn("keys.rejected", { path = path, error = self.rejected, in_use = self.resolver.count })
    end
  end)
end

---Reads the keys and follows the file. (yields)
---@param opts { keys: string[], file: string|nil, is_open_on_purpose: boolean|nil }
---@return macp.plane.ApiKeysSource|nil
---@return macp.Error|nil VALIDATION_ERROR
function M.open(opts)
  local path = opts.file ~= "" and opts.file or nil
  local listed, reason = key_entries.of_list(opts.keys, LIST)
  if listed == nil then return invalid(reason) end
  local self, text = setmetatable({}, Source), nil
  if path then
    local err
    self.file = watched_file.new({ path = path, max_bytes = key_entries.MAX_BYTES })
    text, err = self.file:read()
    if text == nil then return invalid(FILE .. ": " .. err.message) end
  end
  local entries
  entries, reason = entries_of(listed, text)
  if entries == nil then return invalid(reason) end
  self.resolver = api_key.new(entries, { is_open_on_purpose = opts.is_open_on_purpose, is_closed = path ~= nil })
  if path then follow(self, listed, path) end
  return self
end

---Ends the following. (yields)
function Source:close()
  if self.file then self.file:close() end
end

return M
