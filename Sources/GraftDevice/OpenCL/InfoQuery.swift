import COpenCL

/// Reads the values behind one of OpenCL's `clGet…Info` calls.
struct InfoQuery {
  typealias Getter = (cl_uint, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> cl_int

  let call: String
  let device: String
  let get: Getter

  /// One plain value.
  func value<Value: BitwiseCopyable>(_ parameter: Int32, _ initial: Value) throws(DeviceError) -> Value {
    var value = initial
    try check(get(cl_uint(bitPattern: parameter), MemoryLayout<Value>.size, &value, nil), "\(call)(\(hexadecimal(parameter)))", on: device)
    return value
  }

  /// A list of plain values.
  func values<Value: BitwiseCopyable>(_ parameter: Int32, _ filler: Value) throws(DeviceError) -> [Value] {
    let label = "\(call)(\(hexadecimal(parameter)))"
    var byteCount = 0
    try check(get(cl_uint(bitPattern: parameter), 0, nil, &byteCount), label, on: device)
    var values = [Value](repeating: filler, count: byteCount / MemoryLayout<Value>.stride)
    guard !values.isEmpty else { return [] }
    let status = values.withUnsafeMutableBytes { get(cl_uint(bitPattern: parameter), $0.count, $0.baseAddress, nil) }
    try check(status, label, on: device)
    return values
  }

  /// Text, without the closing zero and without blanks around it.
  func text(_ parameter: Int32) throws(DeviceError) -> String {
    let bytes = try values(parameter, UInt8(0))
    let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    return String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }

  private func hexadecimal(_ parameter: Int32) -> String { "0x" + String(parameter, radix: 16) }

  static func platform(_ id: cl_platform_id) -> InfoQuery {
    InfoQuery(call: "clGetPlatformInfo", device: "OpenCL") { clGetPlatformInfo(id, $0, $1, $2, $3) }
  }

  static func device(_ id: cl_device_id, named name: String) -> InfoQuery {
    InfoQuery(call: "clGetDeviceInfo", device: name) { clGetDeviceInfo(id, $0, $1, $2, $3) }
  }

  static func program(_ program: ProgramHandle, on device: String) -> InfoQuery {
    InfoQuery(call: "clGetProgramInfo", device: device) { clGetProgramInfo(program.raw, $0, $1, $2, $3) }
  }
}
