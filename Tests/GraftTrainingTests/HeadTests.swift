import GraftGraph
import GraftTraining
import Testing

@Suite struct HeadTests {
  private static let metadata = HeadMetadata(
    classes: ["äpfel", "b \"quoted\"", "c"], cut: "features", backboneSHA256: String(repeating: "0a", count: 32), backboneFile: "net.onnx",
    preprocessing: #"{"mean":[0.5],"crop_pct":0.875}"#, featureNormalisation: .l2, l2: 0.1 + 0.2, metrics: ["validation_top1": 0.9],
    graftVersion: "1.2.3")

  private func head() throws -> Head { try Head(weight: [1, 2, 3, 4, 5, 6], bias: [0.5, -0.5, 0], metadata: Self.metadata) }

  @Test func roundTrip() throws {
    let head = try head()
    let (tensors, strings) = try head.encoded()
    #expect(tensors.map(\.0) == ["weight", "bias"])
    #expect(tensors.map(\.1.shape) == [[3, 2], [3]])
    let read = try Head(tensors: Dictionary(uniqueKeysWithValues: tensors), metadata: strings, file: "h.safetensors")
    #expect(read.weight == head.weight)
    #expect(read.bias == head.bias)
    #expect(read.metadata == head.metadata)
    #expect(read.dimension == 2)
    #expect(try read.encoded().metadata == strings)
  }

  @Test func withoutABackbone() throws {
    let metadata = HeadMetadata(
      classes: ["a", "b"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0, graftVersion: "1"
    )
    let (tensors, strings) = try Head(weight: [1, 2], bias: [0, 0], metadata: metadata).encoded()
    #expect(strings["cut"] == nil)
    #expect(try Head(tensors: Dictionary(uniqueKeysWithValues: tensors), metadata: strings, file: "h").metadata == metadata)
  }

  @Test(
    arguments: [
      ("format", "other"), ("format", nil), ("format_version", "0"), ("format_version", "2"), ("format_version", "x"), ("kind", "mlp"),
      ("classes", "[]"), ("classes", "[\"a\"]"), ("classes", "[\"a\",\"a\",\"b\"]"), ("classes", "{"), ("classes", "[1,2,3]"), ("classes", nil),
      ("classes", "[\"a\",\"b\",\"c\",\"d\"]"), ("feature_normalisation", "l3"), ("feature_normalisation", nil), ("l2", "-1"), ("l2", "nan"),
      ("l2", "many"), ("l2", nil), ("metrics", "[]"), ("metrics", nil), ("graft_version", nil), ("backbone_sha256", "abc"),
      ("backbone_sha256", String(repeating: "0A", count: 32)), ("preprocessing", "[1]"), ("preprocessing", "{"),
    ] as [(String, String?)])
  func damagedHeaderIsRefused(key: String, value: String?) throws {
    var (tensors, strings) = try head().encoded()
    tensors.sort { $0.0 < $1.0 }
    strings[key] = value
    let error = #expect(throws: HeadError.self) {
      try Head(tensors: Dictionary(uniqueKeysWithValues: tensors), metadata: strings, file: "dir/h.safetensors")
    }
    #expect(error?.description.hasPrefix("dir/h.safetensors: ") == true)
  }

  static let damagedTensors: [(String, HostTensor?)] = [
    ("weight", nil), ("bias", nil), ("weight", HostTensor([2, 3], [1, 2, 3, 4, 5, 6])), ("weight", HostTensor([6], [1, 2, 3, 4, 5, 6])),
    ("weight", HostTensor([3, 0], [])), ("weight", HostTensor([3, 1, 2], [1, 2, 3, 4, 5, 6])),
    ("weight", HostTensor([3, 2], [1, 2, .nan, 4, 5, 6])),
    ("bias", HostTensor([3], [0, .infinity, 0])), ("bias", HostTensor([2], [0, 0])), ("bias", HostTensor([], [0])),
    ("bias", HostTensor([3], integers: [0, 0, 0])),
  ]

  @Test(arguments: damagedTensors.indices)
  func damagedTensorsAreRefused(index: Int) throws {
    let (name, tensor) = Self.damagedTensors[index]
    let (tensors, strings) = try head().encoded()
    var byName = Dictionary(uniqueKeysWithValues: tensors)
    byName[name] = tensor
    #expect(throws: HeadError.self) { try Head(tensors: byName, metadata: strings, file: "h") }
  }

  @Test func halfPrecisionIsReadToo() throws {
    let (tensors, strings) = try head().encoded()
    var byName = Dictionary(uniqueKeysWithValues: tensors)
    let halves: [UInt16] = [1, 2, 3, 4, 5, 6].map { HalfPrecision.half(fromFloat: $0) }
    byName["weight"] = try HostTensor(
      shape: [3, 2], elementType: .float16, storage: HostBytes(copying: halves.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }))
    #expect(try Head(tensors: byName, metadata: strings, file: "h").weight == [1, 2, 3, 4, 5, 6])
  }

  @Test func anotherTensorIsNotAHead() throws {
    let error = #expect(throws: HeadError.self) { try Head(tensors: [:], metadata: ["format": "pt"], file: "net.safetensors") }
    #expect(error?.description.contains("not a head") == true)
  }

  @Test func logitsOfRowsAndTheirLengths() throws {
    let head = try head()
    var found: [Float] = []
    try head.forEachLogits(of: ArrayFeatures([3, 4, 0, 0], rowCount: 2, dimension: 2, chunkRowCount: 1), file: "store") { found += $1 }
    let expected: [Float] = [0.6 + 1.6 + 0.5, 1.8 + 3.2 - 0.5, 3 + 4.8, 0.5, -0.5, 0]
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-6 })
    #expect(found.count == 6)
    let error = #expect(throws: HeadError.self) {
      try head.forEachLogits(of: ArrayFeatures([1], rowCount: 1, dimension: 1), file: "store") { _, _ in }
    }
    #expect(error?.description.contains("takes 2 features") == true)
  }

  @Test func metricsThatAreNoNumbersAreRefused() {
    var metadata = Self.metadata
    metadata.metrics["x"] = .nan
    #expect(throws: HeadError.self) { try Head(weight: [1, 2, 3], bias: [0, 0, 0], metadata: metadata) }
  }
}
