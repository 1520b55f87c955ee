-- Runs that have ended, as lists look for them by text, tag, scenario and mode: their entries have the numbers of all that a
-- run can be looked for by (run_entries_terms_idx; of a short time run_entries_times_idx), so that what several filters leave is found at once, and are short, so that
-- many of them are soon looked at. Migration 0021 tells how they are kept true.

local pg = require("host.pg")

local json = require("macp.core.json")
local db_door = require("macp.store.db")
local scenarios = require("macp.store.scenarios")

local FEW = 64 -- words; more are looked for in a hash where entries are read one by one

local M = {}

---Whether entries can tell which runs a query means.
---@param query table of run_words.resolve
function M.can_tell(query) return query.scenario_terms ~= false and query.search_terms ~= false end

-- A tag as it is written within the JSON of tags.
local function tag_term(placeholder)
  local written = "to_jsonb(" .. placeholder .. "::text)::text"
  return "run_term($1, 'tag', substr(" .. written .. ", 2, length(" .. written .. ") - 2))"
end

-- The terms that a run must have, as one condition.
local function add_required(filter, query)
  local terms = {}
  for kind, value in pairs({ status = query.status or nil, environment = query.environment or nil,
    mode = query.mode_name or nil }) do
    terms[#terms + 1] = "run_term($1, '" .. kind .. "', " .. filter:param(value) .. ")"
  end
  for _, tag in ipairs(query.tags and json.decode(query.tags) or {}) do
    terms[#terms + 1] = tag_term(filter:param(tag))
  end
  if #terms > 0 then filter:only("terms @> array[" .. table.concat(terms, ", ") .. "]") end
end

-- That an entry has one of the terms, for the index, or one by one: then comparing all with all takes too long, and for the
-- index, too, which finds by what must be there as well.
local function any_of(filter, query, terms, is_dense)
  local _, commas = terms:gsub(",", "")
  local given = filter:param(terms) .. "::bigint[]"
  local is_held = is_dense or query.tags or query.mode_name or query.status and query.environment
  if commas < FEW or not is_held then return "terms && " .. given end
  return "exists (select from unnest(terms) t (term) where t.term = any(" .. given .. "))"
end

local function add_search(filter, query, is_dense)
  local found = any_of(filter, query, query.search_terms, is_dense)
  if query.search_id then
    found = "(" .. found .. " or run_id::text ilike " .. filter:param(db_door.contains(query.search_id)) .. ")"
  end
  filter:only(found)
  if query.is_rough then
    filter:only("(select true from runs where tenant = $1 and id = run_entries.run_id and " .. scenarios.SEARCHED
      .. " ilike " .. filter:param(db_door.contains(query.search)) .. ")")
  end
end

---The conditions of a query on run_entries besides the tenant, which is $1.
---@param query table of run_words.resolve that entries can tell
---@param is_dense boolean|nil whether it means so many that their index is of no use
---@return string
function M.where(filter, query, is_dense)
  return filter:apart(function()
    add_required(filter, query)
    if query.scenario_ref then filter:only(any_of(filter, query, query.scenario_terms, is_dense)) end
    if query.search then add_search(filter, query, is_dense) end
    if query.created_after_ms then filter:add("created_at > ?", pg.ts(query.created_after_ms)) end
    if query.created_before_ms then filter:add("created_at < ?", pg.ts(query.created_before_ms)) end
    if not query.include_sandbox then filter:only("not is_sandbox") end
    if not query.include_archived then filter:only("not is_archived") end
  end)
end

---A query of columns of the entries that are meant.
---@param columns string
---@param tail string
---@param is_dense boolean|nil as for M.where
function M.select(filter, query, columns, tail, is_dense)
  return "(select " .. columns .. " from run_entries where tenant = $1" .. M.where(filter, query, is_dense) .. tail
    .. ")"
end

return M
