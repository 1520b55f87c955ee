-- Replies with many events: as one text when they are short, else piece by piece, as fast as the client takes them. Of the
-- documents no more than a piece and one event are in memory, however large a page is.

local download = require("macp.http.download")

local events_store = require("macp.store.events")

local JSON = "application/json; charset=utf-8"

local M = { PIECE_BYTES = 1048576 }

---Sends what next_piece gives between head and tail. (yields)
---@param ctx macp.Context
---@param head string
---@param tail string
---@param next_piece fun(): string|nil, boolean|table documents with commas between them, and whether they are the last
--- ones; nil and the error
---@return integer status
---@return string|nil body of a short reply
function M.send(ctx, head, tail, next_piece)
  local text, is_last = next_piece()
  if text == nil then error(is_last, 0) end
  if is_last then return 200, head .. text .. tail end
  local write, finish = download.open(ctx, JSON, { compress = true })
  local before, is_empty = head, true
  while true do
    local comma = not is_empty and #text > 0 and "," or ""
    local ok, err = write(before .. comma .. text .. (is_last and tail or ""))
    if ok and is_last then ok, err = finish() end
    if not ok and not download.is_gone(err) then error(err, 0) end
    if not ok or is_last then return 200 end
    before, is_empty = "", is_empty and #text == 0
    text, is_last = next_piece()
    if text == nil then error(is_last, 0) end
  end
end

-- The rows from a place on whose documents are read together.
local function group_from(rows, at, count)
  local group, bytes = {}, 0
  while at <= count and bytes < M.PIECE_BYTES do
    group[#group + 1] = rows[at]
    at, bytes = at + 1, bytes + rows[at].size
  end
  return group
end

---Pieces of a page whose rows have documents up to some place only; what was deleted meanwhile is left out.
---@param db table
---@param rows { run_id: string, seq: integer, size: integer, document: string|nil }[]
---@param count integer of rows that are sent
---@return fun(): string|nil, boolean|table next_piece for M.send (yields)
function M.pieces(db, tenant, rows, count)
  local at = 1
  return function()
    local documents = {}
    while at <= count and rows[at].document do
      documents[#documents + 1] = rows[at].document
      rows[at].document = nil
      at = at + 1
    end
    if #documents > 0 or at > count then return table.concat(documents, ","), at > count end
    local group = group_from(rows, at, count)
    local found, err = events_store.documents(db, tenant, group)
    if found == nil then return nil, err end
    local known = {}
    for _, row in ipairs(found) do known[row.run_id .. row.seq] = row.document end
    for _, row in ipairs(group) do documents[#documents + 1] = known[row.run_id:lower() .. row.seq] end
    at = at + #group
    return table.concat(documents, ","), at > count
  end
end

return M
