-- Runs of a scenario: those whose scenario_ref has a text in it, or whose source_ref is it. Scenarios are few, so that
-- their names are looked through one by one, each found behind the one before by one step into the index.

local db_door = require("macp.store.db")

local NAMES = 2000 -- beyond that many the names themselves are many texts, and searched like these

-- Names are indexed up to this length; longer ones are searched, too.
local LENGTH = 250

-- runs_ended_scenario_ref_idx, whose expression is this one
local NAME = "left(scenario_ref, " .. LENGTH .. ")"

-- $1 tenant, $2 pattern, $3 names at most
local FIND = [[
with recursive names (name, i) as (
  (select ]] .. NAME .. [[, 1 from runs
  where tenant = $1 and ended_at is not null and scenario_ref is not null order by ]] .. NAME .. [[ limit 1)
  union all
  select (select ]] .. NAME .. [[ from runs where tenant = $1 and ended_at is not null and scenario_ref is not null
    and ]] .. NAME .. [[ > names.name order by ]] .. NAME .. [[ limit 1), i + 1
  from names where name is not null and i <= $3
)
select coalesce(max(i) > $3 or max(length(name)) >= ]] .. LENGTH .. [[, false) as is_beyond,
  coalesce(array_agg(name) filter (where name ilike $2), '{}')::text as found
from names]]

-- Everything that is searched, one thing per line: runs_ended_search_idx has this very expression.
local SEARCHED = [[(id::text || E'\n' || coalesce(scenario_ref, '') || E'\n' || coalesce(environment, '') || E'\n'
  || coalesce(source_ref, '') || E'\n' || tags::text || E'\n'
  || coalesce(metadata #>> '{executionRequest,session,policyVersion}', ''))]]

local INDEXED = 1000 -- bytes up to which a text is in an index of its column

local M = { SEARCHED = SEARCHED }

---The query with the `names` that have its scenario_ref in them, as add_ended takes them; false: there are too many, or
---too long ones. (yields)
---@param query { scenario_ref: string|nil }
---@return table|nil query
---@return table|nil err
function M.named(db, tenant, query)
  if query.scenario_ref == nil then return query end
  local row, err = db_door.one(db, FIND, tenant, db_door.contains(query.scenario_ref), NAMES)
  if row == nil then return nil, err end
  return setmetatable({ names = not row.is_beyond and row.found }, { __index = query })
end

---Whether a text is short enough for the index of its column.
function M.is_indexed(text) return #text <= INDEXED end

---Adds to a filter that a column is a text, as the index of the column can tell.
function M.add_equal(filter, column, text)
  local short = " and octet_length(" .. column .. ") <= " .. INDEXED
  filter:add(column .. " = ?" .. (M.is_indexed(text) and short or ""), text)
end

-- Runs that are not over, and those of a window of time.
local function plain(filter, text)
  return "(scenario_ref ilike " .. filter:param(db_door.contains(text)) .. " or source_ref = " .. filter:param(text)
    .. ")"
end

---Adds the condition for runs that are few anyway.
function M.add_plain(filter, text) filter:only(plain(filter, text)) end

---Adds the condition for runs that have ended, which the caller says, too. runs_ended_scenario_ref_idx, runs_ended_source_ref_idx; else
---runs_ended_search_idx, which finds more.
---@param names string|false of M.names
function M.add_ended(filter, text, names)
  if not names then
    filter:only("ended_at > '-infinity'")
    filter:add(SEARCHED .. " ilike ?", db_door.contains(text))
    filter:only(plain(filter, text))
    return
  end
  local source = "source_ref = " .. filter:param(text)
  if #text <= INDEXED then source = source .. " and octet_length(source_ref) <= " .. INDEXED end
  filter:only("(scenario_ref is not null and " .. NAME .. " = any(" .. filter:param(names) .. "::text[]) or " .. source
    .. ")")
end

return M
