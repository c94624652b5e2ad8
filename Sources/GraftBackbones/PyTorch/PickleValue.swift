import GraftGraph

/// A value of a pickle.
///
/// Containers are numbers into a `PickleHeap` rather than objects of their own: values can then be nested to any depth
/// and contain themselves, as hostile pickles do, without a deep recursion when they are freed.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int64)
  /// More than 64 bits, two's complement, least significant byte first.
  case bigInteger([UInt8])
  case float(Double)
  case string(String)
  case bytes([UInt8])
  case list(Int)
  case tuple(Int)
  case dictionary(Int)
  case set(Int)
  /// A class or function that is not called yet.
  case global(PickleGlobal)
  case elementType(ElementType)
  /// A NumPy type by its code: "f8", "i4".
  case numPyType(String)
  case storage(Int)
  case tensor(Int)
}

/// A Python dictionary: insertion order, the last value of a key wins.
struct PickleDictionary {
  private(set) var entries: [(key: PickleValue, value: PickleValue)] = []
  private var positions: [String: Int] = [:]

  mutating func set(_ key: PickleValue, _ value: PickleValue) {
    guard case .string(let name) = key else {
      entries.append((key, value))
      return
    }
    if let position = positions[name] {
      entries[position].value = value
    } else {
      positions[name] = entries.count
      entries.append((key, value))
    }
  }

  subscript(_ name: String) -> PickleValue? { positions[name].map { entries[$0].value } }
}

/// The bytes a tensor lies in, as the pickle refers to them.
struct PickledStorage {
  /// The name under which the file keeps the bytes.
  let key: String
  /// uint8 for storages without a type of their own.
  let elementType: ElementType
  let elementCount: Int
  /// Where this storage begins inside the one called `key`, in elements: not 0 only for views in the legacy form.
  let offset: Int
  /// Elements of the whole storage called `key`.
  let rootElementCount: Int
}

/// A tensor as the pickle describes it: a strided window into a storage. Offset and strides count elements.
struct PickledTensor: Hashable {
  let storage: Int
  let elementType: ElementType
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}

/// Everything that one pickle has built.
struct PickleHeap {
  var lists: [[PickleValue]] = []
  var tuples: [[PickleValue]] = []
  var sets: [[PickleValue]] = []
  var dictionaries: [PickleDictionary] = []
  var storages: [PickledStorage] = []
  var tensors: [PickledTensor] = []

  /// A limit far above any checkpoint's, so that a pickle of nothing but empty lists stays small in memory.
  static let containerLimit = 4_000_000
  var containerCount: Int { lists.count + tuples.count + sets.count + dictionaries.count + storages.count + tensors.count }

  mutating func list(_ items: [PickleValue] = []) -> PickleValue {
    lists.append(items)
    return .list(lists.count - 1)
  }
  mutating func tuple(_ items: [PickleValue]) -> PickleValue {
    tuples.append(items)
    return .tuple(tuples.count - 1)
  }
  mutating func set(_ items: [PickleValue] = []) -> PickleValue {
    sets.append(items)
    return .set(sets.count - 1)
  }
  mutating func dictionary() -> PickleValue {
    dictionaries.append(PickleDictionary())
    return .dictionary(dictionaries.count - 1)
  }

  /// The items of a tuple or list.
  func sequence(_ value: PickleValue) -> [PickleValue]? {
    switch value {
    case .tuple(let index): tuples[index]
    case .list(let index): lists[index]
    default: nil
    }
  }

  /// More dimensions than PyTorch itself allows.
  static let rankLimit = 64

  /// A tuple of integers: a shape, strides.
  func integers(_ value: PickleValue) -> [Int]? {
    guard let items = sequence(value), items.count <= Self.rankLimit else { return nil }
    var integers: [Int] = []
    for item in items {
      guard case .integer(let integer) = item else { return nil }
      integers.append(Int(integer))
    }
    return integers
  }
}
