import Foundation
import GraftBackbones
import GraftGraph
import Testing

/// Pickles written opcode by opcode, in the legacy form, for what no Python would write.
@Suite struct UnpicklerTests {
  // Opcodes by Python's names for them.
  static let proto2: [UInt8] = [0x80, 2]
  static let stop: [UInt8] = [UInt8(ascii: ".")]
  static func text(_ text: String) -> [UInt8] {
    [UInt8(ascii: "X")] + withUnsafeBytes(of: UInt32(text.utf8.count).littleEndian, Array.init) + text.utf8
  }
  static func int(_ value: Int32) -> [UInt8] { [UInt8(ascii: "J")] + withUnsafeBytes(of: value.littleEndian, Array.init) }
  static func long(_ value: Int64) -> [UInt8] { [0x8A, 8] + withUnsafeBytes(of: value.littleEndian, Array.init) }
  static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }
  static func tuple(_ items: [UInt8]...) -> [UInt8] { Array("(".utf8) + items.joined() + Array("t".utf8) }
  static let none: [UInt8] = [UInt8(ascii: "N")]
  static let reduce: [UInt8] = [UInt8(ascii: "R")]

  /// A float32 tensor on the storage "0".
  static func tensor(offset: Int64 = 0, shape: [Int64], strides: [Int64], count: Int64 = 4, view: [UInt8] = none, type: String = "FloatStorage")
    -> [UInt8]
  {
    let id = tuple(text("storage"), global("torch", type), text("0"), text("cpu"), long(count), view) + Array("Q".utf8)
    let arguments = tuple(
      id, long(offset), Array("(".utf8) + shape.flatMap(long) + Array("t".utf8), Array("(".utf8) + strides.flatMap(long) + Array("t".utf8), [0x89],
      global("collections", "OrderedDict") + Array(")R".utf8))
    return global("torch._utils", "_rebuild_tensor_v2") + arguments + reduce
  }

  /// A file of the legacy form that holds {"w": value} and a storage "0" of the numbers 0, 1, 2, …
  static func file(_ value: [UInt8], keys: [UInt8] = Array("](".utf8) + text("0") + Array("e".utf8), count: Int = 4) -> [UInt8] {
    root(Array("}".utf8) + text("w") + value + Array("s".utf8), keys: keys, count: count)
  }
  static func root(_ root: [UInt8], keys: [UInt8] = Array("](".utf8) + text("0") + Array("e".utf8), count: Int = 4) -> [UInt8] {
    let magic = proto2 + [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19] + stop
    let machine = proto2 + Array("}".utf8) + text("little_endian") + [0x88] + Array("s".utf8) + stop
    let storage = withUnsafeBytes(of: Int64(count).littleEndian, Array.init) + (0..<count).flatMap { withUnsafeBytes(of: Float($0), Array.init) }
    return magic + proto2 + int(1001) + stop + machine + proto2 + root + stop + proto2 + keys + stop + storage
  }

  private func read(_ bytes: [UInt8]) throws -> StateDictionary {
    let folder = TemporaryFolder()
    return try StateDictionary(path: try folder.file("weights.pth", bytes))
  }
  private func error(_ value: [UInt8], _ location: SourceLocation = #_sourceLocation) -> String {
    message(location) { _ = try read(Self.file(value)) }
  }

  @Test func theFileThatTheOthersDamageIsRead() throws {
    let state = try read(Self.file(Self.tensor(offset: 1, shape: [3], strides: [1])))
    #expect(state["w"]?.floats() == [1, 2, 3])
    #expect(state.source.isEmpty)
  }

  @Test(
    arguments: [
      ([2, 2], [1, 2], 0, [0, 2, 1, 3]), ([2], [3], 0, [0, 3]), ([2, 1, 2], [2, 99, 1], 0, [0, 1, 2, 3]), ([], [], 2, [2]), ([0, 5], [5, 1], 0, []),
      ([2, 2], [0, 1], 1, [1, 2, 1, 2]),
    ] as [([Int64], [Int64], Int64, [Float])])
  func stridesAreFollowed(shape: [Int64], strides: [Int64], offset: Int64, expected: [Float]) throws {
    let tensor = try #require(try read(Self.file(Self.tensor(offset: offset, shape: shape, strides: strides)))["w"])
    #expect(tensor.shape == shape.map(Int.init))
    #expect(tensor.floats() == expected)
  }

  @Test(
    arguments: [
      ([4], [1], 1), ([5], [1], 0), ([2], [4], 0), ([2], [-1], 1), ([-1], [1], 0), ([1], [1], -1), ([1], [1], .max), ([1, 1], [1], 0),
      ([2], [.max], 0),
      ([2, 2], [.max, .max], 0), ([.max, .max], [1, 1], 0), ([1 << 32, 1 << 31], [0, 0], 0), ([1 << 40], [0], 0), ([0, .max, .max], [1, 1, 1], 0),
      ([.min], [1], 0), ([2, 2], [1 << 62, 1 << 62], 1 << 62),
    ] as [([Int64], [Int64], Int64)])
  func windowsOutsideTheStorageAreRefused(shape: [Int64], strides: [Int64], offset: Int64) {
    // An empty tensor is one whatever its other extents, as long as the product exists.
    if shape.first == 0, let tensor = try? read(Self.file(Self.tensor(offset: offset, shape: shape, strides: strides)))["w"] {
      #expect(tensor.floats() == [])
      return
    }
    let error = error(Self.tensor(offset: offset, shape: shape, strides: strides))
    #expect(error.contains("weights.pth: tensor 'w': "), "\(error)")
  }

  @Test func storagesMustBeWhatThePickleSays() {
    #expect(error(Self.tensor(shape: [1], strides: [1], count: 5)).contains("the storage '0' has 4 elements, and its tensors need 5"))
    #expect(error(Self.tensor(shape: [1], strides: [1], count: -1)).contains("a storage is not described"))
    #expect(error(Self.tensor(shape: [1], strides: [1], count: .max)).contains("the storage '0' has 4 elements"))
    #expect(error(Self.tensor(shape: [1], strides: [1], type: "DoubleStorage")).contains("needs 32 bytes, and the file has 16 left"))
    #expect(error(Self.tensor(shape: [1], strides: [1], type: "QInt8Storage")).contains("'torch.QInt8Storage'"))
    let unlisted = message { _ = try read(Self.file(Self.tensor(shape: [1], strides: [1]), keys: Array("]".utf8))) }
    #expect(unlisted.contains("the storage '0' of a tensor is missing"))
  }

  @Test func viewsOfTheLegacyFormBeginInsideTheirStorage() throws {
    let view = Self.tuple(Self.text("v"), Self.long(1), Self.long(3))
    #expect(try read(Self.file(Self.tensor(offset: 1, shape: [2], strides: [1], view: view)))["w"]?.floats() == [2, 3])
    #expect(error(Self.tensor(offset: 1, shape: [3], strides: [1], view: view)).contains("tensor 'w'"))
    for (first, count) in [(-1, 2), (2, 3), (.max, .max)] as [(Int64, Int64)] {
      let view = Self.tuple(Self.text("v"), Self.long(first), Self.long(count))
      #expect(error(Self.tensor(shape: [1], strides: [1], view: view)).contains("a view lies outside its storage"))
    }
  }

  @Test func bigEndianFilesAreRefused() {
    var bytes = Self.file(Self.tensor(shape: [1], strides: [1]))
    let flag = bytes.firstRange(of: Self.text("little_endian"))!.upperBound
    bytes[flag] = 0x89
    #expect(message { _ = try read(bytes) }.contains("big-endian machine"))
  }

  @Test(arguments: [
    "posix.system", "builtins.eval", "builtins.getattr", "torch.load", "torch.nn.modules.linear.Linear", "torch._utils._rebuild_tensor",
    "functools.partial",
    "numpy.core.multiarray._reconstruct",
  ])
  func onlyKnownNamesAreBuilt(name: String) {
    let split = name.lastIndex(of: ".")!
    let (module, function) = (String(name[..<split]), String(name[name.index(after: split)...]))
    #expect(error(Self.global(module, function)).contains("'\(name)'"))
    // STACK_GLOBAL, the way of protocol 4.
    #expect(error(Self.text(module) + Self.text(function) + [0x93]).contains("'\(name)'"))
  }

  @Test func knownNamesBuildOnlyWhatTheyAre() {
    #expect(error(Self.global("torch", "FloatStorage") + Self.tuple(Self.int(1 << 30)) + Self.reduce).contains("builds a storage out of nothing"))
    #expect(error(Self.text("f") + Array(")R".utf8)).contains("calls what is no function"))
    #expect(error(Self.global("torch._utils", "_rebuild_tensor_v2") + Array(")R".utf8)).contains("a tensor is not described"))
    #expect(error(Self.global("torch._utils", "_rebuild_parameter") + Self.tuple(Self.int(1)) + Self.reduce).contains("a parameter holds no tensor"))
  }

  @Test func stackAndMemoAreChecked() {
    for opcodes in ["0", "a", "s", "e", "u", "t", "R", "b", "Q", "2", "((0", "h\u{7}", "]s", "]1", "(u", "Ka\u{1}", "\u{1}"] {
      #expect(message { _ = try read(Self.root(Array(opcodes.utf8))) }.contains("its pickle cannot be read at byte"), "\(opcodes)")
    }
  }

  @Test(.timeLimit(.minutes(5))) func nestingToAnyDepthIsHarmless() throws {
    let depth = 200_000
    let tensor = Self.tensor(shape: [1], strides: [1])
    let open = [UInt8](repeating: UInt8(ascii: "]"), count: depth)
    let close = [UInt8](repeating: UInt8(ascii: "a"), count: depth - 1)
    // [[[…]]], (((…))) and a list that contains itself; each beside a tensor.
    let tuples = Self.none + [UInt8](repeating: 0x85, count: depth)
    let itself = Array("]q\u{5}h\u{5}a".utf8)
    for value in [open + close, tuples, itself] {
      let root = Array("}(".utf8) + Self.text("deep") + value + Self.text("w") + tensor + Array("u".utf8)
      let state = try read(Self.root(root))
      #expect(state.names == ["w"])
      #expect(state.ignored == ["deep"])
    }
    // A dictionary inside itself under a key that is looked into.
    let loop = Array("}q\u{5}".utf8) + Self.text("state_dict") + Array("h\u{5}s".utf8)
    #expect(message { _ = try read(Self.root(loop, keys: Array("]".utf8))) }.contains("its keys are 'state_dict'"))
    let many = [UInt8](repeating: UInt8(ascii: "]"), count: 5_000_000)
    #expect(message { _ = try read(Self.root(many)) }.contains("more than 4000000 objects"))
  }

  @Test(.timeLimit(.minutes(5))) func copiesCannotBeAskedForOverAndOver() async {
    await #expect(processExitsWith: .success) {
      UnpicklerTests().copyOverAndOver()
      let peak = try peakByteCount()
      #expect(peak < 1 << 30)
    }
  }

  private func copyOverAndOver() {
    // A list of 100,000 items, copied again and again by eight bytes each; and a string, encoded again and again.
    let items = Array("](".utf8) + [UInt8](repeating: UInt8(ascii: "N"), count: 100_000) + Array("eq\u{1}0".utf8)
    let listCall = Self.global("builtins", "list") + Array("q\u{2}0".utf8)
    let lists =
      items + listCall
      + [[UInt8]](repeating: Array("h\u{2}h\u{1}\u{85}R".unicodeScalars.map { UInt8($0.value) }) + Array("Na".utf8), count: 20_000).joined()
    #expect(message { _ = try read(Self.root(lists)) }.contains("it copies the same items over and over"))
    let string = Self.text(String(repeating: "x", count: 100_000)) + Array("q\u{1}0".utf8) + Self.text("latin1") + Array("q\u{2}0".utf8)
    let encode = Self.global("_codecs", "encode") + Array("q\u{3}0".utf8)
    let strings =
      string + encode + [[UInt8]](repeating: Array("h\u{3}h\u{1}h\u{2}\u{86}R".unicodeScalars.map { UInt8($0.value) }), count: 20_000).joined()
    #expect(message { _ = try read(Self.root(strings)) }.contains("it copies the same items over and over"))
    // One storage, many different transposes of all of it.
    let count = 60 * 60
    let tensors = (1..<60).flatMap {
      Self.text("w\($0)") + Self.tensor(shape: [Int64(count / 60), Int64($0)], strides: [1, 60], count: Int64(count))
    }
    #expect(
      message { _ = try read(Self.root(Array("}(".utf8) + tensors + Array("u".utf8), count: count)) }.contains("more tensors lie on its storage"))
  }

  @Test(
    arguments: [
      [0x80, 0], [0x80, 6], [0x8D, 255, 255, 255, 255, 255, 255, 255, 255], [0x8E, 255, 255, 255, 255, 255, 255, 255, 127],
      [0x8B, 255, 255, 255, 255],
      [UInt8(ascii: "T"), 255, 255, 255, 255], [UInt8(ascii: "X"), 255, 255, 255, 255], [UInt8(ascii: "B"), 255, 255, 255, 127],
    ] as [[UInt8]])
  func lengthsBeyondTheFileAreErrors(opcode: [UInt8]) {
    #expect(throws: ImportError.self) { try read(Self.file(opcode)) }
  }
}
