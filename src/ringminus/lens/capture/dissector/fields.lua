-- Wireshark's dissector of ringminus' captures.
-- VERSION
--
-- Made from the declarations of events and messages by `ringminus lens wireshark install`: what is declared is
-- in SPEC, what follows it takes messages apart as ringminus does itself (ringminus/protocol/layer.py).

local SPEC = {} -- SPEC

local VERSION = SPEC.version
local PAGE = 4096
local MOST_NUMBERS = 65536
local EMPTY = {}

---------------------------------------------------------------- fields of Wireshark's

local ringminus = Proto("ringminus", "ringminus event")
local protos, layer_fields, event_fields, fields_of = {}, {}, {}, { ringminus = {} }

-- ftypes of SPEC: for integers by their size, else by how they are read
local MAKE = {
  u8 = ProtoField.uint8, u16 = ProtoField.uint16, u32 = ProtoField.uint32, u64 = ProtoField.uint64,
  i8 = ProtoField.int8, i16 = ProtoField.int16, i32 = ProtoField.int32, i64 = ProtoField.int64,
  bytes = ProtoField.bytes, mac = ProtoField.ether, ipv4 = ProtoField.ipv4, ipv6 = ProtoField.ipv6,
  guid = ProtoField.guid, text = ProtoField.string, flag = ProtoField.bool, time = ProtoField.relative_time,
}
local ADDRESS_SIZES = { mac = 6, ipv4 = 4, ipv6 = 16, guid = 16 }
local INTEGER = { u8 = 32, u16 = 32, u32 = 32, u64 = 64, i8 = -32, i16 = -32, i32 = -32, i64 = -64 }

-- A field of SPEC: its name, ftype, labels and whether it is hexadecimal. There may be several of a name, with
-- labels of their own.
local function make_field(owner, prefix, spec)
  local name, ftype, labels, hex = spec[1], spec[2], SPEC.labels[spec[3] or ""], spec[4]
  local abbrev = "ringminus." .. prefix .. name
  local made = { ftype = ftype, labels = labels }
  local make = MAKE[ftype]
  if INTEGER[ftype] then
    local display = INTEGER[ftype] == 32 and base.DEC_HEX or base.DEC
    if hex then display = base.HEX end
    made.field = make(abbrev, name, display, labels and not labels.flags and labels.names or nil)
  elseif ADDRESS_SIZES[ftype] or ftype == "time" then
    made.field = make(abbrev, name)
    if ftype ~= "time" then -- where there are not as many bytes as an address has
      made.raw = ProtoField.bytes(abbrev, name)
      table.insert(owner, made.raw)
    end
  else
    made.field = make(abbrev, name)
  end
  table.insert(owner, made.field)
  if labels and labels.flags then
    made.flags = {}
    for _, one in ipairs(labels.of) do
      local flag = ProtoField.bool(abbrev .. "." .. one[2]:lower(), one[2])
      table.insert(owner, flag)
      table.insert(made.flags, { one[1], flag, one[2] })
    end
  end
  return made
end

local function index_places(plans)
  for _, plan in ipairs(plans or EMPTY) do
    plan.by_name = {}
    for _, place in ipairs(plan.places) do plan.by_name[place.name] = place end
  end
end

for name, spec in pairs(SPEC.protocols) do
  index_places(spec.bare)
  index_places(spec.otherwise)
  for _, plans in pairs(spec.forms) do index_places(plans) end
  local proto, owner = Proto("ringminus." .. name, spec.title .. " (ringminus." .. name .. ")"), {}
  local known = { message = make_field(owner, name .. ".", { "message", "text" }) }
  for key, one in ipairs(spec.fields) do
    known[key] = make_field(owner, name .. ".", one)
    known[one[1]] = known[one[1]] or known[key]
  end
  proto.fields = owner
  protos[name], layer_fields[name] = proto, known
end

do
  local owner, known = {}, {}
  for _, one in ipairs(SPEC.header) do known[one[1]] = make_field(owner, "", one) end
  known.event = make_field(owner, "", { "event", "text" })
  event_fields[""] = known
  for name, spec in pairs(SPEC.events) do
    known = { [""] = { field = ProtoField.none("ringminus." .. name, name) } }
    table.insert(owner, known[""].field)
    for _, one in ipairs(spec) do known[one[1]] = make_field(owner, name .. ".", one) end
    event_fields[name] = known
  end
  fields_of.ringminus = owner
end

local about_application = ProtoField.string("ringminus.application", "application")
local about_partition = ProtoField.string("ringminus.partition", "partition")
local cause_in = ProtoField.framenum("ringminus.cause_in", "caused by", base.NONE)
local request_in = ProtoField.framenum("ringminus.request_in", "answers", base.NONE, frametype.REQUEST)
local answer_in = ProtoField.framenum("ringminus.answer_in", "answered in", base.NONE, frametype.RESPONSE)
local answer_time = ProtoField.relative_time("ringminus.answer_time", "time since the request")
for _, one in ipairs({ about_application, about_partition, cause_in, request_in, answer_in, answer_time }) do
  table.insert(fields_of.ringminus, one)
end
ringminus.fields = fields_of.ringminus

local WARN, NOTE, ERROR = expert.severity.WARN, expert.severity.NOTE, expert.severity.ERROR
local cut_short = ProtoExpert.new("ringminus.cut", "cut short", expert.group.MALFORMED, WARN)
local undeclared = ProtoExpert.new("ringminus.undeclared", "unknown message", expert.group.UNDECODED, WARN)
local no_protocol = ProtoExpert.new("ringminus.no_protocol", "no protocol", expert.group.UNDECODED, NOTE)
local bad_packet = ProtoExpert.new("ringminus.bad", "no event of ringminus", expert.group.MALFORMED, ERROR)
ringminus.experts = { cut_short, undeclared, no_protocol, bad_packet }
