import ArgumentParser
import Foundation
import Graft

struct ExtractCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "extract", abstract: "Compute a backbone's features of a folder of images, once.",
    discussion: """
      PATH holds a folder a class, or train, val and test folders of such. Without those, 20 % of the images become test \
      data, by a hash of their content, so that adding images moves none. A folder of IDX files, as MNIST and Fashion-MNIST come, \
      is taken as it is.

      With --labels FILE.csv images are labelled by the file instead of their folders, wherever they lie below PATH. Its first line \
      names the columns, its first column is the image's path relative to PATH, a column split may say train, val or test:

        path,label                   one class an image
        path,labels                  --task multilabel: any number, as cat|outdoor
        path,cat,outdoor             --task multilabel: 0 or 1 for each label
        path,age,weight              --task regression: numbers

      Labels that have changed since are written anew; nothing is computed again.

      What is in the store already is not computed again: an interrupted run goes on where it stopped, and new images cost \
      only themselves. A store belongs to one backbone, cut and preprocessing; with others it is refused, never mixed.

      With --views K each picture has K rows: the picture as it is first, the others changed at random, by its content and the \
      seed alone. Changes, seed and K belong to what the store is made of.

      With several devices (--device opencl:0,opencl:1 or all-gpus) each takes the next batch when it is free. Devices of one \
      kind give the same store, byte for byte, as one of them; one that fails is left out with a note, and the others go on.
      """)

  @Option(help: ArgumentHelp("A model file: .onnx, or the .pth or .safetensors of a known architecture.", valueName: "model")) var backbone: String
  @Option(help: ArgumentHelp("The folder of images.", valueName: "path")) var data: String
  @OptionGroup var choosing: ClassOptions
  @Option(help: ArgumentHelp("What the images are labelled with, a table with a line an image (default: their folders).", valueName: "file.csv"))
  var labels: String?
  @Option(help: ArgumentHelp("What --labels says: classification, multilabel or regression.", valueName: "kind")) var task = LabelTask.classification
  @Option(name: .customLong("output"), help: ArgumentHelp("The store, a folder.", valueName: "store")) var store: String
  @Option(help: ArgumentHelp("Where the frozen part ends (default: the classifier's input; see 'graft inspect').", valueName: "name")) var cut:
    String?
  @Option(help: "Images computed at a time.") var batchSize = 16
  @Option(help: ArgumentHelp("Rows committed at a time (default 2048; never more than 64 MiB, nor than 30 seconds' work).", valueName: "count"))
  var shardRows: Int?
  @Option(help: ArgumentHelp("Number format of the stored features: float32 or float16.", valueName: "format")) var featureType = "float32"
  @Option(
    help: ArgumentHelp(
      "The part of the images that becomes test data where folders don't say (default: 0.2, or without --seed the store's).", valueName: "ratio"))
  var testFraction: Double?
  @Option(help: ArgumentHelp("Draws another test split.", valueName: "number")) var seed: UInt64?
  @Option(help: ArgumentHelp("Threads that decode (default: every core).", valueName: "count")) var decodingThreads: Int?
  @Flag(help: "Make a broken image an error instead of skipping it.") var strict = false
  @Flag(help: "Compute everything anew, and replace the store at the end.") var rebuild = false
  @Flag(help: "Compute damaged shards again.") var repair = false
  @Flag(help: "Show what each device did, and how often the program waited for it.") var profile = false
  @OptionGroup var preprocessing: PreprocessingOptions
  @Option(
    help: ArgumentHelp(
      "Rows a picture: the picture as it is, and others of it changed at random. Heads are then trained on all of them, or on one an epoch.",
      valueName: "count")) var views = 1
  @Option(help: ArgumentHelp("Draws other views.", valueName: "number")) var viewSeed: UInt64 = 0
  @OptionGroup(title: "Random changes (with --views; default: --augment standard)") var augmenting: AugmentationFlags
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...65536).contains(batchSize) else { throw ValidationError("--batch-size takes 1 to 65536, not \(batchSize).") }
    if let shardRows, shardRows < 1 { throw ValidationError("--shard-rows takes a positive number, not \(shardRows).") }
    if let decodingThreads, !(1...1024).contains(decodingThreads) {
      throw ValidationError("--decoding-threads takes 1 to 1024, not \(decodingThreads).")
    }
    guard featureType == "float32" || featureType == "float16" else {
      throw ValidationError("--feature-type takes float32 or float16, not '\(featureType)'.")
    }
    if let testFraction, !(0...1).contains(testFraction) { throw ValidationError("--test-fraction takes a number from 0 to 1, not \(testFraction).") }
    guard (1...FeatureKey.mostViews).contains(views) else { throw ValidationError("--views takes 1 to \(FeatureKey.mostViews), not \(views).") }
    guard views > 1 || !(augmenting.isGiven || viewSeed != 0) else {
      throw ValidationError("pictures are changed at random for further views of them: give --views 2 or more, or leave the changes out.")
    }
    if labels == nil, task != .classification { throw ValidationError("--task \(task.rawValue) needs --labels: folders name classes.") }
    if labels != nil, choosing.classes != nil {
      throw ValidationError("--classes chooses among class folders; with --labels leave out the lines of the images that are not to count.")
    }
    if rebuild, repair { throw ValidationError("--rebuild and --repair exclude each other.") }
  }

  private struct Skipped: Encodable {
    let path, reason: String
  }

  private struct Used: Encodable {
    let device: String
    let images, batches, hostWaits: Int
    let failure: String?
    enum CodingKeys: String, CodingKey {
      case device, images, batches, failure
      case hostWaits = "host_waits"
    }
    init(_ usage: DeviceUsage) {
      (device, images, batches, hostWaits, failure) = (usage.device, usage.images, usage.batches, usage.hostWaits, usage.failure)
    }
  }

  private struct Report: Encodable {
    let store, backbone, cut, device: String
    let cutShape: [Int]
    let extracted, reused, skipped, removed, ignored: Int
    /// With --labels.
    let task: LabelTask?
    let unlabelled, missing: Int?
    let seconds: Double
    let shares: [String: Double]
    let skippedImages: [Skipped]
    let devices: [Used]
    enum CodingKeys: String, CodingKey {
      case store, backbone, cut, device, task, unlabelled, missing, extracted, reused, skipped, removed, ignored, seconds, shares, devices
      case cutShape = "cut_shape"
      case skippedImages = "skipped_images"
    }
  }

  func execute() throws {
    let console = output.console
    // First of all, so that a wrong table is told at once.
    let table = try labels.map { try LabelTable(path: $0, task: task) }
    let (model, configuration) = try loadBackbone(backbone, console)
    let preprocessing = try preprocessing.resolve(model, configuration)
    let frozen = try FrozenBackbone.describe(model, cut: cut, preprocessing: preprocessing)
    let augmentation = augmenting.augmentation(default: .standard, for: preprocessing)
    guard views == 1 || !augmentation.isIdentity else {
      throw ValidationError("with these options all \(views) views would be the same picture: leave out --views, or change the pictures.")
    }
    let devices = try computing.makeSeveral(console)
    let identifiers = devices.map(\.traits.identifier).joined(separator: ",")
    let key = FeatureKey(
      backboneSHA256: try model.hash(), cut: frozen.cut, cutShape: frozen.featureShape, preprocessing: preprocessing.canonicalJSON,
      precision: format.precision.rawValue, views: views,
      viewDrawing: views > 1 ? StoredViews(augmentation: augmentation, seed: viewSeed).canonicalJSON : "",
      featureType: featureType == "float16" ? .float16 : .float32)
    var options = ExtractionOptions(backbone: backbone)
    if let decodingThreads { options.decodingThreads = decodingThreads }
    (options.shardRows, options.strict) = (shardRows, strict)
    if seed != nil || testFraction != nil {
      options.split = SplitRule(seed: seed ?? SplitRule.default.seed, testFraction: testFraction ?? SplitRule.default.testFraction)
    }
    options.opening = rebuild ? .rebuilding : repair ? .repairing : .resuming
    options.facts.merge(["graft_version": GraftVersion.text, "device": identifiers]) { $1 }
    let run = try FeatureExtraction(
      data: table.map { try ImageFolder(path: data, labels: $0) } ?? ImageFolder(path: data, classes: choosing.names), store: store, key: key,
      preprocessing: preprocessing,
      pixelLimit: self.preprocessing.maxPixels, options: options)
    console.note(
      "cut: \(frozen.cut) \(frozen.featureShape), \(byteText(key.views * key.featureCount * key.featureType.byteCount)) an image"
        + (views > 1 ? " in \(views) views" : ""))
    let line = ProgressLine(console)
    let summary: ExtractionSummary
    var usage: () -> [DeviceUsage] = { [] }
    do {
      summary = try Interruption.shared.deferring(console) { flag in
        try run.run(
          computing: {
            let plan = planning.planOptions(format.precision)
            guard devices.count > 1 else {
              let frozen = try FrozenBackbone(
                model, cut: cut, preprocessing: preprocessing, batchSize: batchSize, device: devices[0], options: plan)
              usage = { [frozen.usage] }
              return frozen
            }
            let group = try FrozenBackboneGroup(
              model, cut: cut, preprocessing: preprocessing, batchSize: batchSize, devices: devices, options: plan)
            usage = { group.usage }
            return group
          },
          cancellation: flag, progress: { line.show(progressText($0)) })
      }
    } catch {
      line.finish()
      throw error
    }
    line.finish()
    for image in summary.skippedImages.prefix(10) { console.warn("skipped \(ImageFolder.shown(image.path)): \(image.reason)") }
    if summary.skipped > 10 { console.warn("\(summary.skipped - 10) more were skipped; the table 'sample' in \(store)/index.sqlite has them all") }
    if let labels {
      console.warn(
        summary.unlabelled, one: "image has no row in \(labels) and was left out",
        more: "images have no row in \(labels) and were left out")
      console.warn(summary.missing, one: "row of \(labels) has no image", more: "rows of \(labels) have no image")
    }
    for name in summary.deadLinks { console.warn("the link '\(ImageFolder.shown(name))' leads nowhere, and is no class") }
    console.warn(
      summary.outside, one: "image lies outside the class folders and was left out",
      more: "images lie outside the class folders and were left out")
    for name in summary.emptyClasses { console.warn("the folder '\(ImageFolder.shown(name))' holds no image") }
    for name in summary.passedOver { console.warn("the folder '\(ImageFolder.shown(name))' beside the splits is no split and was passed over") }
    let others = summary.ignored - summary.outside.count - summary.deadLinks.count
    if others > 0 { console.note(others == 1 ? "1 other file was ignored" : "\(others) other files were ignored") }
    if summary.removed > 0 {
      let (one, more) = ("1 sample left the store: its file is gone", "\(summary.removed) samples left the store: their files are gone")
      let alternative = labels.map { ", or not in \($0)" } ?? (choosing.classes == nil ? "" : ", or of other classes")
      console.warn((summary.removed == 1 ? one : more) + alternative)
    }
    console.result(
      String(
        format: "%d extracted, %d reused, %d skipped in %.1f s%@", summary.extracted, summary.reused, summary.skipped, summary.seconds,
        summary.extracted > 0 ? " (\(sharesText(summary.shares)))" : ""))
    let used = usage().map(Used.init)
    if profile || devices.count > 1 {
      for device in used {
        console.result("\(device.device): \(device.images) images in \(device.batches) batches, waited for \(device.hostWaits) times")
      }
    }
    console.note("next: graft train \(store) --output head.safetensors")
    try console.object(
      Report(
        store: store, backbone: backbone, cut: frozen.cut, device: identifiers, cutShape: frozen.featureShape,
        extracted: summary.extracted,
        reused: summary.reused, skipped: summary.skipped, removed: summary.removed, ignored: summary.ignored,
        task: table.map { _ in task }, unlabelled: table.map { _ in summary.unlabelled.count }, missing: table.map { _ in summary.missing.count },
        seconds: summary.seconds,
        shares: ["decoding": summary.shares.decoding, "device": summary.shares.device, "writing": summary.shares.writing],
        skippedImages: summary.skippedImages.map { Skipped(path: $0.path, reason: $0.reason) }, devices: used))
  }

  private func sharesText(_ shares: TimeShares) -> String {
    String(format: "waiting for images %.0f %%, device %.0f %%, writing %.0f %%", shares.decoding * 100, shares.device * 100, shares.writing * 100)
  }

  private func progressText(_ progress: ExtractionProgress) -> String {
    var text = String(format: "%d of %d images, %.1f images/s", progress.done, progress.total, progress.imagesPerSecond)
    if let left = progress.secondsLeft {
      text += left >= 60 ? String(format: ", %d min %02d s left", Int(left) / 60, Int(left) % 60) : String(format: ", %.0f s left", left)
    }
    return text + ", \(sharesText(progress.shares))" + (progress.skipped > 0 ? ", \(progress.skipped) skipped" : "")
  }
}

extension LabelTask: ExpressibleByArgument {}
