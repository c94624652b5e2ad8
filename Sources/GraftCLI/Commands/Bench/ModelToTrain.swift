import ArgumentParser
import Graft

/// The network that 'bench train' measures and 'tune --train' tunes: every parameter is trained, from pictures that come as bytes.
struct ModelToTrain {
  static let help = ArgumentHelp("A model file, or one of \(ResNet.known.joined(separator: ", ")).")

  let network: TrainableNetwork
  /// Of a picture.
  let imageByteCount: Int

  /// - Parameters:
  ///   - name: an architecture, which is trained from scratch with each batch's statistics, or a model file, with those that are stored.
  ///   - classes: that an architecture tells apart.
  ///   - options: how normalisations are trained is set here.
  init(_ name: String, _ images: ImageSizeOptions, classes: Int, options: inout TrainingOptions, _ console: Console) throws {
    if let architecture = ResNet(name: name, classes: classes) {
      options.normalization = .batch(momentum: 0.1)
      let (height, width) = (images.inputSize ?? architecture.preprocessing.height, images.inputSize ?? architecture.preprocessing.width)
      let images = architecture.preprocessing, weights = architecture.initialState(seed: 0), description = Architecture(architecture)
      network = TrainableNetwork { batch in
        try description.classifierGraph(weights, inputShape: [batch, images.channels, height, width])
          .takingImageBytes(
            scale: images.standardDeviation.map { Float(1 / (255 * $0)) }, shift: zip(images.mean, images.standardDeviation).map { Float(-$0 / $1) })
      }
      imageByteCount = images.channels * height * width
      return
    }
    let (backbone, configuration) = try loadBackbone(name, console)
    let shape = try images.shape(of: backbone, configuration, batchSize: options.batchSize)
    network = TrainableNetwork { batch in
      var graph = try backbone.graph(imageShape: [batch] + shape.dropFirst())
      graph.outputs = Array(graph.outputs.prefix(1))
      let found = graph.outputs.first.map { graph.type(of: $0).shape } ?? []
      guard found.count == 2 else {
        throw ShapeError(name, "its first output is \(found), and the scores [batch, classes] of a classifier are needed to train it")
      }
      // Bytes as they come, about -2 to 2.
      let channels = shape.count == 4 ? shape[1] : 0
      return try graph.takingImageBytes(
        scale: [Float](repeating: 4 / 255, count: channels), shift: [Float](repeating: -2, count: channels))
    }
    imageByteCount = shape.dropFirst().reduce(1, *)
  }
}
