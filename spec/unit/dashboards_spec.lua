-- Dashboards and rules in examples/dashboards name only what the program tells.

local fs = require("host.fs")

local json = require("macp.core.json")

local metric_names = require("spec.support.metric_names")
local promql = require("spec.support.promql")

local DIR = "examples/dashboards/"
local OF_PROMETHEUS = { instance = true, job = true }

local known = {}
for _, list in pairs(metric_names) do
  if type(list) == "table" then
    for name, spec in pairs(list) do
      local labels = { instance = true, job = true }
      for _, label in ipairs(spec[2] or {}) do labels[label] = true end
      known[name] = spec[1] ~= "histogram" and { labels = labels, type = spec[1] } or nil
      if spec[1] == "histogram" then
        local with_bound = { le = true }
        for label in pairs(labels) do with_bound[label] = true end
        known[name .. "_bucket"] = { labels = with_bound, type = "counter" }
        known[name .. "_sum"] = { labels = labels, type = "counter" }
        known[name .. "_count"] = { labels = labels, type = "counter" }
      end
    end
  end
end

-- What an expression names that does not exist.
local function problems_of(expr, recorded)
  local problems, names = {}, promql.names(expr)
  local labels = {}
  for _, metric in ipairs(names.metrics) do
    local family = known[metric.name]
    if family == nil and not recorded[metric.name] then
      problems[#problems + 1] = "no metric " .. metric.name .. " in " .. expr
    end
    for label in pairs(family and family.labels or OF_PROMETHEUS) do labels[label] = true end
    for _, label in ipairs(metric.labels) do
      if family and not family.labels[label] then
        problems[#problems + 1] = metric.name .. " has no label " .. label
      end
    end
    if family and family.type == "gauge" and expr:find("rate%(" .. metric.name) then
      problems[#problems + 1] = metric.name .. " is a gauge: it has no rate"
    end
  end
  for _, label in ipairs(names.grouped) do
    if not labels[label] then problems[#problems + 1] = "nothing in " .. expr .. " has a label " .. label end
  end
  if #names.metrics == 0 then problems[#problems + 1] = "nothing is asked for in " .. expr end
  return problems
end

local function read(name) return assert(fs.read(DIR .. name)) end

describe("the names in PromQL", function()
  it("are found", function()
    local names = promql.names('histogram_quantile(0.99, sum by (le, op) (rate(x_bucket{a="b{c", d=~"e"}[5m]))) > 1e3')
    assert.same({ metrics = { { name = "x_bucket", labels = { "a", "d" } } }, grouped = { "le", "op" } }, names)
    assert.same({ { name = "a:b", labels = {} }, { name = "c", labels = {} } }, promql.names("a:b / on (x) c").metrics)
  end)

  it("are checked by a rule that bites", function()
    assert.same({ "no metric macp_no in rate(macp_no[5m])" }, problems_of("rate(macp_no[5m])", {}))
    assert.same({ "http_requests_total has no label mode" }, problems_of('http_requests_total{mode="x"}', {}))
    assert.same({ "nothing in sum by (mode) (macp_tasks) has a label mode" },
      problems_of("sum by (mode) (macp_tasks)", {}))
    assert.same({ "macp_tasks is a gauge: it has no rate" }, problems_of("rate(macp_tasks[5m])", {}))
    assert.has_error(function() promql.rules("groups:\n  nonsense\n") end)
  end)
end)

for _, name in ipairs({ "plane.json", "runtime.json" }) do
  describe("the dashboard " .. name, function()
    local board = assert(json.decode(read(name)))

    it("asks for metrics and labels that exist", function()
      local count = 0
      for _, panel in ipairs(board.panels) do
        for _, target in ipairs(panel.targets or {}) do
          count = count + 1
          assert.same({}, problems_of(target.expr, {}), panel.title)
          for label in target.legendFormat:gmatch("{{(%w+)}}") do
            assert.truthy(target.expr:find("by %([%w_, ]*" .. label), panel.title .. " sums away " .. label)
          end
        end
      end
      assert.is_true(count >= 20, count)
      local variable = board.templating.list[2].query.query:match("label_values%(([%w_]+), instance%)")
      assert.truthy(known[variable], variable)
    end)

    it("has panels of different ids that do not cover each other", function()
      local seen, cells = {}, {}
      for _, panel in ipairs(board.panels) do
        assert.is_nil(seen[panel.id])
        seen[panel.id] = true
        local at = panel.gridPos
        assert.is_true(at.x + at.w <= 24, panel.title)
        for x = at.x, at.x + at.w - 1 do
          for y = at.y, at.y + at.h - 1 do
            local cell = x .. "," .. y
            assert.is_nil(cells[cell], panel.title .. " covers " .. tostring(cells[cell]))
            cells[cell] = panel.title
          end
        end
      end
    end)
  end)
end

describe("the rules for Prometheus", function()
  local rules, recorded = promql.rules(read("rules.yml")), {}
  for _, rule in ipairs(rules) do recorded[rule.record or ""] = true end

  it("ask for metrics and labels that exist", function()
    assert.is_true(#rules >= 15)
    for _, rule in ipairs(rules) do assert.same({}, problems_of(rule.expr, recorded), rule.alert or rule.record) end
  end)

  it("say how bad it is, what it means and what to do", function()
    local names = {}
    for _, rule in ipairs(rules) do
      local name = rule.alert or rule.record
      assert.is_nil(names[name], name)
      names[name] = true
      if rule.alert then
        assert.truthy(rule.alert:find("^Macp%u"), rule.alert)
        assert.truthy(({ critical = true, warning = true, info = true })[rule.severity], rule.alert)
        assert.truthy(rule.summary and rule.description, rule.alert)
        for label in (rule.summary .. rule.description):gmatch("%$labels%.(%w+)") do
          local exists = label == "instance"
          for _, metric in ipairs(promql.names(rule.expr).metrics) do
            exists = exists or (known[metric.name] and known[metric.name].labels[label])
          end
          assert.truthy(exists, rule.alert .. " shows " .. label)
        end
      end
    end
  end)
end)
