local metrics = require("macp.telemetry.metrics")

describe("metrics", function()
  local registry

  before_each(function() registry = metrics.new() end)

  it("renders counters, gauges and labels sorted by name", function()
    local requests = registry:counter("b_total", "All requests.", { "method", "status" })
    requests:inc("GET", 200)
    requests:inc("GET", 200, 2)
    requests:labels("POST", "201"):inc()
    registry:gauge("a_open", "Open things."):set(2.5)
    assert.equal(table.concat({
      "# HELP a_open Open things.", "# TYPE a_open gauge", "a_open 2.5",
      "# HELP b_total All requests.", "# TYPE b_total counter",
      'b_total{method="GET",status="200"} 3', 'b_total{method="POST",status="201"} 1', "",
    }, "\n"), registry:render())
  end)

  it("renders cumulative histogram buckets", function()
    local seconds = registry:histogram("d_seconds", "Durations.", { "op" }, { 0.1, 1 })
    for _, value in ipairs({ 0.05, 0.1, 0.5, 7 }) do seconds:observe("x", value) end
    assert.equal(table.concat({
      "# HELP d_seconds Durations.", "# TYPE d_seconds histogram",
      'd_seconds_bucket{op="x",le="0.1"} 2', 'd_seconds_bucket{op="x",le="1"} 3',
      'd_seconds_bucket{op="x",le="+Inf"} 4',
      'd_seconds_sum{op="x"} 7.65', 'd_seconds_count{op="x"} 4', "",
    }, "\n"), registry:render())
  end)

  it("escapes help and label values", function()
    registry:counter("x_total", "Back\\slash\nline.", { "l" }):inc('a"b\\c\nd')
    assert.equal('# HELP x_total Back\\\\slash\\nline.\n# TYPE x_total counter\nx_total{l="a\\"b\\\\c\\nd"} 1\n',
      registry:render())
  end)

  it("shows a family without labels from the start", function()
    registry:counter("n_total", "Nothing yet.")
    assert.truthy(registry:render():find("\nn_total 0\n", 1, true))
  end)

  it("bounds the number of series by one called other", function()
    local family = registry:counter("m_total", "Messages.", { "mode", "type" }, { max_series = 3 })
    for i = 1, 100 do family:inc("mode" .. i, "type") end
    family:inc("mode1", "type")
    local text = registry:render()
    assert.truthy(text:find('m_total{mode="_overflow",type="_overflow"} 97', 1, true))
    assert.truthy(text:find('m_total{mode="mode1",type="type"} 2', 1, true))
    local _, lines = text:gsub("\nm_total{", "")
    assert.equal(4, lines)
  end)

  it("gives the existing family again and refuses another kind", function()
    local first = registry:counter("c_total", "C.")
    assert.equal(first, registry:counter("c_total", "C."))
    assert.has_error(function() registry:gauge("c_total", "C.") end)
  end)

  it("refuses wrong labels and names", function()
    local family = registry:counter("l_total", "L.", { "a", "b" })
    assert.has_error(function() family:labels("x") end)
    assert.has_error(function() family:inc("x") end)
    assert.has_error(function() registry:counter("1x", "X.") end)
  end)

  it("asks collectors before rendering", function()
    local gauge = registry:gauge("g", "G.")
    local calls = 0
    registry:on_render(function()
      calls = calls + 1
      gauge:set(calls)
    end)
    assert.truthy(registry:render():find("\ng 1\n", 1, true))
    assert.truthy(registry:render():find("\ng 2\n", 1, true))
  end)

  it("moves gauges both ways", function()
    local gauge = registry:gauge("s", "S.", { "k" })
    gauge:inc("a")
    gauge:inc("a", 4)
    gauge:dec("a", 2)
    assert.equal(3, gauge:labels("a").value)
  end)
end)

describe("process metrics", function()
  it("report memory, time and tasks", function()
    local registry = metrics.new()
    require("macp.telemetry.process").register(registry)
    local text = registry:render()
    for _, name in ipairs({ "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes",
      "process_lua_memory_bytes", "macp_tasks" }) do
      assert.is_true(tonumber(text:match("\n" .. name .. " (%S+)\n")) > 0, name)
    end
  end)
end)
