---------------------------------------------------------------- MessagePack

-- Values with their places: {value, start, stop}; bytes are {range}, arrays tables of values.
local function unpack_at(tvb, at, stop)
  local first = tvb(at, 1):uint()
  local function sized(width, kind)
    local size = tvb(at + 1, width):uint()
    return kind(at + 1 + width, size)
  end
  local function text(begin, size)
    size = math.min(size, stop - begin)
    return { value = tvb(begin, size):string(ENC_UTF_8), start = begin, stop = begin + size }
  end
  local function bytes(begin, size)
    local there = math.max(math.min(size, stop - begin), 0) -- a large one goes on in another block
    return { bytes = true, start = begin, stop = begin + there, missing = size - there }
  end
  local function array(begin, count)
    local found, position = {}, begin
    for index = 1, count do
      if position >= stop then break end
      found[index] = unpack_at(tvb, position, stop)
      position = found[index].stop
    end
    return { list = found, start = at, stop = position }
  end
  local function map(begin, count)
    local found, position = {}, begin
    for _ = 1, count do
      local key = unpack_at(tvb, position, stop)
      local value = unpack_at(tvb, key.stop, stop)
      found[key.value], position = value, value.stop
    end
    return { map = found, start = at, stop = position }
  end
  local function int(size, signed)
    return { value = read_int(tvb, at + 1, size, signed, true), start = at, stop = at + 1 + size }
  end
  if first < 0x80 then return { value = first, start = at, stop = at + 1 } end
  if first >= 0xe0 then return { value = first - 256, start = at, stop = at + 1 } end
  if first < 0x90 then return map(at + 1, first - 0x80) end
  if first < 0xa0 then return array(at + 1, first - 0x90) end
  if first < 0xc0 then return text(at + 1, first - 0xa0) end
  if first == 0xc0 then return { start = at, stop = at + 1 } end
  if first == 0xc2 or first == 0xc3 then return { value = first == 0xc3, start = at, stop = at + 1 } end
  if first >= 0xc4 and first <= 0xc6 then return sized(2 ^ (first - 0xc4), bytes) end
  if first >= 0xcc and first <= 0xcf then return int(2 ^ (first - 0xcc), false) end
  if first >= 0xd0 and first <= 0xd3 then return int(2 ^ (first - 0xd0), true) end
  if first >= 0xd9 and first <= 0xdb then return sized(2 ^ (first - 0xd9), text) end
  if first == 0xdc or first == 0xdd then return sized(first == 0xdc and 2 or 4, array) end
  if first == 0xde or first == 0xdf then return sized(first == 0xde and 2 or 4, map) end
  error("no MessagePack")
end

---------------------------------------------------------------- events

-- What earlier packets have told: of the files' schemas, and of events by their numbers.
local schemas, frames, requests, answers, shown = {}, {}, {}, {}, {}

function ringminus.init()
  schemas, frames, requests, answers, shown = { [SPEC.schema_crc] = SPEC.schema }, {}, {}, {}, {}
end

-- Their numbers are below 2 ^ 53.
local function key_of(value) return value and number_of(value) end

local function add_value(tree, known, tvb, one)
  if one.list then
    for _, each in ipairs(one.list) do add_value(tree, known, tvb, each) end
  elseif one.bytes then
    if one.stop > one.start then
      local range = tvb(one.start, one.stop - one.start)
      if known.ftype == "guid" and range:len() == 16 then tree:add(known.field, range)
      elseif known.ftype == "bytes" then tree:add(known.field, range) end
    end
  elseif one.value ~= nil then
    local range, value = tvb(one.start, one.stop - one.start), one.value
    if known.ftype == "time" then
      local ticks = type(value) == "number" and UInt64(value % 2 ^ 32, math.floor(value / 2 ^ 32)) or value
      local seconds = ticks / UInt64(10000000, 0)
      tree:add(known.field, range, NSTime(seconds:tonumber(), (ticks % UInt64(10000000, 0)):tonumber() * 100))
    elseif INTEGER[known.ftype] then
      if type(value) ~= "boolean" then add_int(tree, known, range, value) end
    else
      tree:add(known.field, range, value)
    end
  end
end

local function value_of(values, name) return values[name] and values[name].value end

local function guid_of(tvb, one)
  return one and one.bytes and one.stop - one.start == 16 and tostring(tvb(one.start, 16):bytes()):lower() or ""
end

-- Registers' values as bytes, of which each has `halves` times 32 bits.
local function bytes_of(registers, halves)
  local made = {}
  for _, value in ipairs(registers) do
    local low, high = value, 0
    if type(value) == "number" then
      low, high = value % 2 ^ 32, math.floor(value / 2 ^ 32)
    else
      low, high = value:lower(), value:higher()
    end
    for half = 1, halves do
      local left = half == 1 and low or high
      for _ = 1, 4 do
        table.insert(made, string.format("%02x", left % 256))
        left = math.floor(left / 256)
      end
    end
  end
  return ByteArray.new(table.concat(made)):tvb("value")
end

-- The message that an event carries, and what it answers (as ringminus/lens/decode.py).
local function carried(name, values, tvb)
  local function message(protocol, bytes, to_guest, number, request, cut)
    if not SPEC.protocols[protocol] or not bytes or not bytes.bytes then return nil end
    local size = bytes.stop - bytes.start
    return dissect(protocol, tvb, bytes.start, size, to_guest, number, request, cut), request
  end
  local function has_form(protocol, number)
    local spec = SPEC.protocols[protocol]
    return spec and number and (spec.forms[number_of(number)] or spec.otherwise)
  end
  local request = requests[key_of(value_of(values, "cause")) or 0]
  local to_guest = value_of(values, "to_guest")
  if name == "packet" then
    local answer = value_of(values, "kind") == SPEC.completion
    local protocol = SPEC.interfaces[guid_of(tvb, values.interface)]
    local payload = values.payload
    if not protocol or answer and (not payload or payload.start == payload.stop) then return nil end
    return message(protocol, payload, to_guest, nil, answer and request and request.layer or nil)
  elseif name == "device" then
    local payload, size = values.payload, value_of(values, "size")
    local cut = payload and size and math.max(number_of(size) - (payload.stop - payload.start), 0)
    local asked = to_guest and request and request.layer or nil
    return message(value_of(values, "protocol"), payload, to_guest, nil, asked, cut)
  elseif name == "message" then
    local kind = value_of(values, "message_type")
    if kind == SPEC.vmbus_message then return message("vmbus", values.payload, true) end
    if has_form("synic_message", kind) then return message("synic_message", values.payload, false, kind) end
  elseif name == "bus" then
    return message("vmbus", values.payload, to_guest)
  elseif name == "hypercall" then
    local block = values.block
    if not block or not block.bytes or block.stop == block.start then return nil end
    return message("hypercall_input", block, false, value_of(values, "code"))
  elseif name == "msr" then
    local read_fault = value_of(values, "fault") and not value_of(values, "write")
    local number = value_of(values, "msr")
    if read_fault or not has_form("msr_value", number) then return nil end
    return dissect("msr_value", bytes_of({ value_of(values, "value") }, 2), 0, 8, false, number)
  elseif name == "cpuid" then
    local registers, number = {}, value_of(values, "leaf")
    for index, register in ipairs({ "eax", "ebx", "ecx", "edx" }) do
      registers[index] = value_of(values, register)
    end
    if #registers < 4 or not has_form("cpuid_leaf", number) then return nil end
    return dissect("cpuid_leaf", bytes_of(registers, 1), 0, 16, false, number)
  end
end

-- What a ring packet has before its payload: a layer of its own (as EventLayer in ringminus/lens/decode.py).
local function header_of(name, values, tvb)
  local header = values.header
  if name ~= "packet" or not SPEC.protocols.ring or not header or not header.bytes then return nil end
  if header.stop == header.start then return nil end
  local to_guest, kind = value_of(values, "to_guest"), value_of(values, "kind")
  return dissect("ring", tvb, header.start, header.stop - header.start, to_guest, kind)
end

-- Which packet an event answers.
local function request_of(name, values)
  local answer = name == "packet" and value_of(values, "kind") == SPEC.completion
  answer = answer or name == "device" and value_of(values, "to_guest")
  return answer and requests[key_of(value_of(values, "cause")) or 0]
end

-- Remember what later packets refer to; only on the first way through the file.
local function note(name, values, layer, pinfo)
  local sequence = key_of(value_of(values, "sequence")) or 0
  frames[sequence] = pinfo.number
  local request = request_of(name, values)
  if request and not answers[request.number] then answers[request.number] = pinfo.number end
  local asks = name == "packet" and value_of(values, "kind") ~= SPEC.completion
    and (not value_of(values, "to_guest") or value_of(values, "wants_completion"))
  asks = asks or name == "device" and not value_of(values, "to_guest")
  if not asks then return end
  local asked = nil
  if layer then -- the layer itself would need the packet's bytes
    asked = { message = layer.message, kept = {} }
    for _, field in ipairs(layer.spec.asked) do asked.kept[field] = get(layer, field) end
  end
  requests[sequence] = { number = pinfo.number, host_ns = value_of(values, "host_ns"), layer = asked }
end

local ARROWS = { [0] = { "", "" }, { "guest", "host" }, { "host", "guest" } }
local SHOWN = { -- the fields of events that are told in the list of packets
  exit = { "reason", "rip" }, msr = { "name", "value" }, hypercall = { "name", "status" }, message = { "sint" },
  signal = { "sint", "flag" }, interrupt = { "vector", "source" }, timer = { "timer" },
  port = { "port", "value" }, mmio = { "gpa", "value" }, packet = { "device" },
  gpadl = { "device", "handle" }, channel = { "device", "open" }, device = { "device" },
  violation = { "device", "reason" }, cpuid = { "leaf" }, fault = { "address", "rip" }, halt = { "how" },
}

local function info_of(name, values, names)
  local words = { name }
  for _, field in ipairs(SHOWN[name] or EMPTY) do
    local value = value_of(values, field)
    if type(value) == "userdata" then value = "0x" .. (value:tohex():gsub("^0+(.)", "%1")) end
    if type(value) == "number" and value > 0xffff then value = string.format("0x%x", value) end
    if value ~= nil then table.insert(words, tostring(value)) end
  end
  for index, one in ipairs(names) do
    table.insert(words, (index == 1 and "" or "| ") .. one[1] .. " " .. one[2])
  end
  return table.concat(words, " ")
end

local function add_links(tree, values, name, pinfo)
  local cause = frames[key_of(value_of(values, "cause")) or 0]
  if cause and cause ~= pinfo.number then tree:add(cause_in, cause):set_generated() end
  local request = request_of(name, values)
  if request and request.number ~= pinfo.number then
    tree:add(request_in, request.number):set_generated()
    local now = value_of(values, "host_ns")
    if type(now) == "userdata" and type(request.host_ns) == "userdata" and now >= request.host_ns then
      local took = number_of(now - request.host_ns)
      tree:add(answer_time, NSTime(math.floor(took / 1e9), took % 1e9)):set_generated()
    end
  elseif answers[pinfo.number] then
    tree:add(answer_in, answers[pinfo.number]):set_generated()
  end
end

local function dissect_event(tvb, pinfo, tree, schema, direction)
  local number = tvb(8, 1):uint()
  local form = schema[number + 1]
  local record = form and unpack_at(tvb, 9, tvb:len())
  if not record or not record.list then error("no record") end
  local name, values = form[1], {}
  for index, field in ipairs(form[2]) do values[field] = record.list[index] end
  local item = tree:add(ringminus, tvb(), "ringminus event: " .. name)
  local common, own = event_fields[""], event_fields[name] or EMPTY
  item:add(common.event.field, tvb(8, 1), name):set_generated()
  if own[""] then item:add(own[""].field, tvb(8, 1)):set_hidden() end
  for index, field in ipairs(form[2]) do
    local known = common[field] or own[field]
    if known and record.list[index] then add_value(item, known, tvb, record.list[index]) end
  end
  if not event_fields[name] then
    item:add_proto_expert_info(undeclared, "this dissector knows no event " .. name)
  end
  local layer = carried(name, values, tvb)
  if not pinfo.visited then note(name, values, layer, pinfo) end
  add_links(item, values, name, pinfo)
  local names, header = {}, header_of(name, values, tvb)
  if header then add_layer(tree, header, {}) end
  if layer then
    add_layer(tree, layer, names)
  elseif name == "packet" and values.payload and values.payload.stop > values.payload.start
    or name == "device" then
    item:add_proto_expert_info(no_protocol, "no protocol is declared for this device's messages")
  end
  local arrow = ARROWS[direction] or ARROWS[0]
  pinfo.cols.src, pinfo.cols.dst = arrow[1], arrow[2]
  pinfo.cols.protocol = #names > 0 and names[#names][1]:upper() or name:upper()
  pinfo.cols.info = info_of(name, values, names)
end

local function dissect_about(tvb, pinfo, tree, crc)
  local about = unpack_at(tvb, 8, tvb:len()).map
  local schema = {}
  for index, form in ipairs(about.schema.list) do
    local names = {}
    for place, one in ipairs(form.list[2].list) do names[place] = one.value end
    schema[index] = { form.list[1].value, names }
  end
  schemas[crc] = schema
  local item = tree:add(ringminus, tvb(), "ringminus capture")
  item:add(about_application, tvb(), about.application.value)
  item:add(about_partition, tvb(), about.partition.value)
  pinfo.cols.info = string.format(
    "capture of %s by %s", about.partition.value ~= "" and about.partition.value or "a guest",
    about.application.value)
end

local function dissect_packet(tvb, pinfo, tree)
  local version, kind, direction = tvb(0, 1):uint(), tvb(1, 1):uint(), tvb(2, 1):uint()
  local crc = tvb(4, 4):le_uint()
  if version ~= SPEC.format then error("format " .. version .. " needs another version of this dissector") end
  if kind == 0 then dissect_about(tvb, pinfo, tree, crc) end
  if kind ~= 1 then return end
  if not schemas[crc] then error("the file's first packet is missing, which says what its events are") end
  dissect_event(tvb, pinfo, tree, schemas[crc], direction)
end

function ringminus.dissector(tvb, pinfo, tree)
  pinfo.cols.protocol = "RINGMINUS"
  if tvb:len() ~= tvb:reported_len() and tvb:len() < 9 then return end
  local done, problem = pcall(dissect_packet, tvb, pinfo, tree)
  if not done then
    local item = tree:add(ringminus, tvb(), "ringminus: cannot be read")
    item:add_proto_expert_info(bad_packet, tostring(problem))
    pinfo.cols.info = "cannot be read: " .. tostring(problem)
  end
end

DissectorTable.get("wtap_encap"):add(wtap.USER13, ringminus)
set_plugin_info({ version = VERSION, author = "ringminus", description = "Hyper-V's boundary" })
