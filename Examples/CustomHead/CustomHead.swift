import Foundation
import Graft

/// Logits W (x + B relu(A x)) + b of features x: a residual bottleneck, then a linear layer.
///
/// A: [width, D], B: [D, width], W: [C, D], b: [C]. B begins with zeros, so training begins as that of a linear head.
func bottleneckHead(dimension: Int, width: Int, classes: Int) -> TrainableNetwork {
  TrainableNetwork(makeGraph: { batchSize in
    var graph = Graph()
    let x = graph.addInput(TensorType([batchSize, dimension]), name: "features")
    let down = graph.addConstant(.initialWeights([width, dimension], fanIn: dimension, seed: 1), name: "down.weight")
    let up = graph.addConstant(.zeros([dimension, width]), name: "up.weight")
    let weight = graph.addConstant(.initialWeights([classes, dimension], fanIn: dimension, seed: 2), name: "head.weight")
    let bias = graph.addConstant(.zeros([classes]), name: "head.bias")
    let narrow = try graph.add(MatMul(transposeB: true), [x, down], name: "down")
    let active = try graph.add(Unary(.relu), [narrow], name: "relu")
    let wide = try graph.add(MatMul(transposeB: true), [active, up], name: "up")
    let sum = try graph.add(Binary(.add), [x, wide], name: "sum")
    graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [sum, weight, bias], name: "head")]
    return graph
  })
}

/// Trains the head on a store's training samples and keeps it in a file.
func train(store path: String, output: String, device name: String) throws {
  let store = try FeatureStore.open(reading: path)
  let device = try Devices.choose(name)
  let classes = store.classNames.count
  func samples(_ split: String) throws -> StoredInputs { try StoredInputs(store, samples: store.samples(split: split)) }

  let training = try samples("train")
  let options = TrainingOptions(learningRate: 1e-2, epochs: 100, batchSize: min(32, max(1, training.count)))
  let head = bottleneckHead(dimension: store.featureCount, width: max(1, store.featureCount / 4), classes: classes)
  let program = try TrainingProgram(head, options: options, device: device)
  let trainer = try Trainer(program, training: training, validation: nil)
  let tensors = try trainer.run(onEpoch: { record in
    print("epoch \(record.epoch): loss \(record.trainLoss), top-1 \(record.trainTop1 ?? 0)")
  })
  try SafetensorsFile.write(
    tensors: tensors.sorted { $0.key < $1.key }.map { (name: $0.key, tensor: $0.value) },
    metadata: ["backbone_sha256": store.key.backboneSHA256, "cut": store.key.cut, "classes": store.classNames.joined(separator: "\n")], to: output)

  // From the file, as a later program would: what is scored is what was kept.
  let file = try SafetensorsFile(path: output)
  try program.restore(Dictionary(uniqueKeysWithValues: file.names.compactMap { name in file[name].map { (name, $0) } }))
  let test = try samples("test")
  var scores = try EvaluationAccumulator(classes: store.classNames)
  try program.forEachOutputs(of: test) { first, logits in
    try scores.add(logits: logits, labels: test.labels[first..<first + logits.count / classes], firstRow: first)
  }
  let evaluation = try scores.finish()
  print(
    "test: top-1 \(evaluation.top1) on \(evaluation.samples) samples, 95 % from \(evaluation.top1Interval.low) to \(evaluation.top1Interval.high)")
}

@main struct CustomHead {
  static func main() {
    let arguments = CommandLine.arguments
    guard (3...4).contains(arguments.count) else {
      print("usage: custom-head STORE HEAD.safetensors [DEVICE]")
      exit(64)
    }
    do {
      try train(store: arguments[1], output: arguments[2], device: arguments.count > 3 ? arguments[3] : "auto")
    } catch {
      FileHandle.standardError.write(Data("error: \(error)\n".utf8))
      exit(65)
    }
  }
}
