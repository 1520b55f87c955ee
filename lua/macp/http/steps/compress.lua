-- Compressing replies, where the application is told to: large texts go as gzip to callers that accept it, whole or in the
-- pieces in which a route sends them. Event streams and exports, whose routes write themselves, never come here. A constant
-- document is compressed once. Compressed replies are sent in chunks: the web console's proxy unpacks them but passes a
-- Content-Length on as it was, and so would cut them off.

local gzip = require("host.gzip")
local gzip_stream = require("host.gzip_stream")

local tables = require("macp.core.tables")

local MIN_BYTES = 2048 -- less fits into a packet or two anyway
local FAST, SMALL = 1, 9 -- for what is compressed for one caller, and once for all

-- Content types that become smaller.
local TEXTS = { ["application/json"] = true, ["application/x-ndjson"] = true }

local M = { MIN_BYTES = MIN_BYTES }

-- Weight of a coding in an Accept-Encoding field; nil: not named.
local function weight_of(field, coding)
  for item in field:gmatch("[^,]+") do
    local name, rest = item:match("^%s*([^%s;]+)%s*(.*)$")
    if name and name:lower() == coding then return tonumber(rest:match("^;%s*[qQ]=([%d.]+)")) or 1 end
  end
end

---Whether an Accept-Encoding field asks for gzip (RFC 9110 section 12.5.3).
---@param field string|nil
function M.accepts(field)
  if field == nil then return false end
  return (weight_of(field, "gzip") or weight_of(field, "*") or 0) > 0
end

local function is_text(headers)
  local media = headers["content-type"]
  if media == nil then return true end -- JSON, as all replies that say nothing else
  media = media:match("^[^;%s]+"):lower()
  return TEXTS[media] or media:sub(1, 5) == "text/"
end

-- A tag in full is that of the bytes as they are.
local function may_change(headers)
  local tag, cache = headers.etag, headers["cache-control"]
  return headers["content-encoding"] == nil and not (tag and tag:sub(1, 2) ~= "W/")
    and not (cache and cache:find("no-transform", 1, true))
end

-- The route's document in its small form, made again when it is another one. (yields)
local function constant(route, text)
  local kept = route.compressed
  if kept == nil or kept.text ~= text then
    local bytes, err = gzip(text, SMALL)
    if bytes == nil then return nil, err end
    kept = { text = text, bytes = bytes }
    route.compressed = kept
  end
  return kept.bytes
end

---For a text that a route sends in pieces: what makes a piece smaller, nil when the caller takes it as it is. Its headers
---say then which.
---@param ctx macp.Context
---@param headers table changed in place
---@return (fun(text: string, is_last: boolean): string|nil, table|nil)|nil pack (yields) the next bytes, which may be none
function M.pieces(ctx, headers)
  if not ctx.app.compresses then return nil end
  ctx.varies = true
  local stream = M.accepts(ctx.headers["accept-encoding"]) and gzip_stream(FAST)
  if not stream then return nil end
  headers["content-encoding"] = "gzip"
  return function(text, is_last) return stream:write(text, is_last) end
end

---The body of a reply as it is sent, and its headers. (yields)
---@param ctx macp.Context
---@param body any
---@param headers table|nil not changed: routes share theirs between replies
---@return any body
---@return table|nil headers
---@return boolean|nil is_compressed
function M.apply(ctx, body, headers)
  if body == nil or not ctx.app.compresses then return body, headers end
  local text = type(body) == "string" and body or tostring(body)
  if #text < MIN_BYTES or not is_text(headers or {}) or not may_change(headers or {}) then return body, headers end
  ctx.varies = true
  if not M.accepts(ctx.headers["accept-encoding"]) then return body, headers end
  local bytes
  if ctx.route.constant then bytes = constant(ctx.route, text) else bytes = gzip(text, FAST) end
  if bytes == nil then return body, headers end
  return bytes, tables.assign(tables.copy(headers or {}), { ["content-encoding"] = "gzip" }), true
end

return M
