import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A backbone up to its cut, on a device: bytes of prepared images in, rows of features out.
///
/// Normalisation is part of the plan, so images travel to the device as bytes.
public final class FrozenBackbone: FeatureComputing {
  public let batchSize: Int
  public let featureShape: [Int]
  /// The name of the cut.
  public let cut: String
  private let plan: Plan
  private let input: ValueID
  private let output: ValueID
  /// Bytes and features of one batch; what lies beyond a short batch is computed and thrown away.
  private let bytes: UnsafeMutableRawBufferPointer
  private var rows: [Float]

  /// Where a backbone is cut, before anything is computed.
  public struct Description: Sendable {
    public let cut: String
    public let featureShape: [Int]
    /// Every cut there is, for messages.
    public let cuts: [Cut]
  }

  /// Finds the cut by name; `nil` is the default one, the classifier's input.
  ///
  /// - Throws: `ImportError` that lists some cuts if there is none of that name.
  public static func describe(_ backbone: Backbone, cut name: String?, preprocessing: Preprocessing) throws -> Description {
    let graph = try backbone.graph(inputShape: [1, 3, preprocessing.height, preprocessing.width])
    let value = try cutValue(of: graph, named: name, backbone: backbone)
    return Description(cut: graph[value].name, featureShape: Array(graph.type(of: value).shape.dropFirst()), cuts: graph.cuts())
  }

  private static func cutValue(of graph: Graph, named name: String?, backbone: Backbone) throws -> ValueID {
    if let name {
      let cuts = graph.cuts()
      if let found = cuts.first(where: { $0.name == name })?.value ?? graph.outputs.first(where: { graph[$0].name == name }) { return found }
      let known = cuts.suffix(6).map { "'\($0.name)'" }.joined(separator: ", ")
      throw ImportError(
        file: backbone.path,
        what: graph.value(named: name) == nil ? "it has no value '\(name)'" : "it can't be cut at '\(name)': other values go past it",
        remedy: "The last cuts are \(known); 'graft inspect \(backbone.path)' lists all of them.")
    }
    guard let found = graph.defaultCut() else {
      throw ImportError(file: backbone.path, what: "it has no output", remedy: "Export the model again.")
    }
    return found
  }

  /// - Throws: `ImportError`; `PlanMemoryError` before anything is allocated; `DeviceError`, `BuildError`.
  public init(
    _ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, device: any Device, options: PlanOptions = PlanOptions()
  ) throws {
    let shape = [batchSize, 3, preprocessing.height, preprocessing.width]
    let whole = try backbone.graph(inputShape: shape)
    let value = try Self.cutValue(of: whole, named: name, backbone: backbone)
    cut = whole[value].name
    featureShape = Array(whole.type(of: value).shape.dropFirst())
    guard whole.type(of: value).shape.first == batchSize else {
      throw ImportError(
        file: backbone.path, what: "its features have shape \(whole.type(of: value).shape) for a batch of \(batchSize)",
        remedy: "The model was exported for a fixed batch: use --batch-size 1, or export it with an open one.")
    }
    plan = try backbone.namingFile {
      try Plan(
        whole.frozen(at: value).takingImageBytes(scale: preprocessing.scale, shift: preprocessing.shift), device: device, options: options)
    }
    (input, output) = (plan.graph.inputs[0], plan.graph.outputs[0])
    self.batchSize = batchSize
    bytes = .allocate(byteCount: batchSize * preprocessing.byteCount, alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    rows = [Float](repeating: 0, count: batchSize * featureShape.reduce(1, *))
  }

  deinit { bytes.deallocate() }

  public func features(ofBatch images: UnsafeRawBufferPointer, count: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    let width = featureShape.reduce(1, *)
    precondition(count <= batchSize && images.count == bytes.count / batchSize * count && target.count >= width * count)
    bytes.copyMemory(from: images)
    try plan.write(UnsafeRawBufferPointer(bytes), to: input)
    try plan.run()
    try rows.withUnsafeMutableBytes { try plan.read(output, into: $0) }
    rows.withUnsafeBufferPointer { _ = target.update(fromContentsOf: $0[..<(width * count)]) }
  }
}
