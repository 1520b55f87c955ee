-- Policy check: the rules of a policy against the modes it could meet. One for a mode is judged by that mode; one for
-- "*" by every mode, each of which looks at its own rules only: a key is unknown when no mode knows it.

local json = require("macp.core.json")
local policy = require("macp.modes.inside.policy")
local policy_rules = require("macp.modes.policy_rules")

local ANY_MODE = "*"

local M = {}

local function revisions(registry)
  local list = {}
  for i, descriptor in ipairs(registry:list()) do list[i] = registry:get(descriptor.mode) end
  return list
end

-- Every path that some mode declares, and the children of every group.
local function union(revs)
  local paths, children, seen = {}, {}, {}
  for _, rev in ipairs(revs) do
    for _, rule in ipairs(rev.policy.list) do paths[rule.path] = true end
    for prefix, names in pairs(rev.policy.groups) do
      paths[prefix] = true
      children[prefix] = children[prefix] or {}
      for _, name in ipairs(names) do
        local key = prefix .. "." .. name
        if not seen[key] then table.insert(children[prefix], name) end
        seen[key] = true
      end
    end
  end
  return { paths = paths, children = children }
end

-- Texts that several modes have in common are told once, with the modes they come from.
local function collector(total)
  local order, by_text = {}, {}
  local function add(text, mode)
    if by_text[text] == nil then
      order[#order + 1] = text
      by_text[text] = {}
    end
    table.insert(by_text[text], mode)
  end
  local function texts()
    local out = {}
    for i, text in ipairs(order) do
      local modes = by_text[text]
      out[i] = #modes == total and text or text .. " (" .. table.concat(modes, ", ") .. ")"
    end
    return out
  end
  return add, texts
end

-- A mode that may come later: what every mode has in common can be judged now.
local function check_unknown(mode_id, rules, schema_version, strict)
  local problems, warnings = policy_rules.check(policy.compile(nil), rules, schema_version, { strict = strict })
  local texts = {}
  for i, item in ipairs(#problems > 0 and problems or warnings) do texts[i] = item.rule .. ": " .. item.text end
  if #problems > 0 then return nil, texts end
  texts[#texts + 1] = string.format("mode: %q is not registered; its rules are checked when it is", mode_id)
  return true, texts
end

---Checks the rules of a policy for one mode, or for "*" for all of them.
---@param mode_id string mode id or "*"
---@param rules table
---@param schema_version integer
---@param opts { strict: boolean }|nil
---@return boolean|nil ok
---@return string[] reasons or warnings
local function check_policy(registry, mode_id, rules, schema_version, opts)
  local strict = opts and opts.strict
  if mode_id ~= ANY_MODE then
    local rev = registry:get(mode_id)
    if rev == nil then return check_unknown(mode_id, rules, schema_version, strict) end
    return rev:check_policy(rules, schema_version, { strict = strict })
  end
  local revs = revisions(registry)
  local elsewhere = union(revs)
  local refuse, refused = collector(#revs)
  local warn, warned = collector(#revs)
  for _, rev in ipairs(revs) do
    local ok, texts = rev:check_policy(rules, schema_version, { strict = strict, elsewhere = elsewhere })
    for _, text in ipairs(texts) do (ok and warn or refuse)(text, rev.id) end
  end
  local problems = refused()
  if #problems > 0 then return nil, problems end
  return true, warned()
end

---A function that checks policies for the mode of one revision only: what is the same for all of them is found once.
---@param opts { strict: boolean }|nil
---@return fun(given: { mode: string, rules: table, schema_version: integer }): boolean|nil, string[]
local function policy_checker(registry, rev, opts)
  local strict, elsewhere = opts and opts.strict, nil
  return function(given)
    if given.mode ~= ANY_MODE then return rev:check_policy(given.rules, given.schema_version, { strict = strict }) end
    elsewhere = elsewhere or union(revisions(registry))
    return rev:check_policy(given.rules, given.schema_version, { strict = strict, elsewhere = elsewhere })
  end
end

-- A tree without annotations and without what only repeats a default; nil when nothing is left.
local function reduced(compiled, tree, prefix)
  local out
  for key, value in pairs(tree) do
    local path = prefix == "" and key or prefix .. "." .. key
    local rule = compiled.by_path[path]
    local kept = value
    if key:find("^[_$]") then
      kept = nil
    elseif compiled.groups[path] and type(value) == "table" and not json.is_array(value) then
      kept = reduced(compiled, value, path)
    elseif rule and rule.default ~= nil and json.canonical(rule.default) == json.canonical(value) then
      kept = nil
    elseif rule and (value == rule.unset or type(value) == "table" and next(value) == nil) then
      kept = nil
    elseif rule and rule.alias and rule.alias[value] then
      kept = rule.alias[value]
    end
    if kept ~= nil then
      out = out or {}
      out[key] = kept
    end
  end
  return out
end

---What the rules of a policy mean, as text: two policies with equal texts mean the same. Defaults that are spelled out
---and annotations make no difference.
---@return string
local function policy_meaning(registry, mode_id, rules)
  local revs = mode_id == ANY_MODE and revisions(registry) or { registry:get(mode_id) }
  local tree = rules
  if #revs == 0 then revs[1] = { policy = policy.compile(nil) } end
  for _, rev in ipairs(revs) do tree = reduced(rev.policy, tree, "") or {} end
  return json.encode(json.object(tree), { sorted = true })
end

---Gives the mode registry its methods about policies.
function M.install(Registry)
  Registry.check_policy, Registry.policy_checker = check_policy, policy_checker
  Registry.policy_meaning = policy_meaning
end

return M
