// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import { FineTuningServing } from "../../../contracts/compute/FineTuningServing.sol";
import { InferenceServing } from "../../../contracts/compute/InferenceServing.sol";
import { LedgerManager } from "../../../contracts/compute/LedgerManager.sol";
import { ProviderStakes } from "../../../contracts/compute/ProviderStakes.sol";
import { TaskBook } from "../../../contracts/compute/TaskBook.sol";
import { Quota, VerifierInput } from "../../../contracts/interfaces/IFineTuningServing.sol";
import {
    InferenceServiceParams,
    TEESettlementData,
    VoucherSettlement
} from "../../../contracts/interfaces/IInferenceServing.sol";
import { Ledger, ServiceRegistration } from "../../../contracts/interfaces/ILedgerManager.sol";
import { ServingParameters } from "../../../contracts/interfaces/IServingAccounts.sol";
import { TaskTerms } from "../../../contracts/interfaces/ITaskBook.sol";
import { Test } from "../support/Test.sol";

/// @notice Cheat codes for keys.
interface VmKeys {
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
}

/// @notice The compute contracts, governed by the deployer.
abstract contract ComputeWorld is Test {
    VmKeys internal constant KEYS = VmKeys(address(uint160(uint256(keccak256("hevm cheat code")))));
    bytes32 private constant _DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    uint256 internal constant USERS = 4;
    uint256 internal constant PROVIDERS = 3;
    address internal constant SLASHER = address(0x51A5);
    address internal constant BURN = address(0xdEaD);

    LedgerManager internal ledger;
    InferenceServing internal inference;
    FineTuningServing internal tuning;
    ProviderStakes internal stakes;
    TaskBook internal book;

    function deployCompute() internal {
        uint256 nonce = vm.getNonce(address(this));
        address ledger_ = vm.computeCreateAddress(address(this), nonce);
        address stakes_ = vm.computeCreateAddress(address(this), nonce + 1);
        address book_ = vm.computeCreateAddress(address(this), nonce + 2);
        address inference_ = vm.computeCreateAddress(address(this), nonce + 3);
        address tuning_ = vm.computeCreateAddress(address(this), nonce + 4);
        ServiceRegistration[] memory services = new ServiceRegistration[](2);
        services[0] = ServiceRegistration("inference", "v1.0", inference_, "", true);
        services[1] = ServiceRegistration("fine-tuning", "v1.0", tuning_, "", true);
        ledger = new LedgerManager(address(this), 3 ether, 1 ether, services);
        stakes = new ProviderStakes(address(this), 7 days);
        book = new TaskBook(tuning_);
        ServingParameters memory parameters = ServingParameters(
            address(this),
            ledger_,
            100 ether,
            stakes_,
            1 days,
            1 hours
        );
        inference = new InferenceServing(parameters);
        tuning = new FineTuningServing(parameters, book_, 30);
    }

    /// @notice Anyone may do anything that is governed, here: stands in for the AccessManager.
    function canCall(address, address, bytes4) external pure returns (bool, uint32) {
        return (true, 0);
    }

    function userKey(uint256 index) internal pure returns (uint256) {
        return 0xA11CE + (index % USERS);
    }

    function user(uint256 index) internal pure returns (address) {
        return KEYS.addr(userKey(index));
    }

    function provider(uint256 index) internal pure returns (address) {
        return address(uint160(0xF00D00 + (index % PROVIDERS)));
    }

    function signerKey(uint256 index) internal pure returns (uint256) {
        return 0x516E + (index % PROVIDERS);
    }

    function signature(
        uint256 key,
        address verifier,
        string memory name,
        bytes32 message
    ) internal view returns (bytes memory) {
        (bytes32 r, bytes32 s, uint8 v) = signatureParts(key, verifier, name, message);
        return abi.encodePacked(r, s, v);
    }

    function signatureParts(
        uint256 key,
        address verifier,
        string memory name,
        bytes32 message
    ) internal view returns (bytes32 r, bytes32 s, uint8 v) {
        bytes32 domain = keccak256(
            abi.encode(_DOMAIN, keccak256(bytes(name)), keccak256("1"), block.chainid, verifier)
        );
        (v, r, s) = KEYS.sign(key, keccak256(abi.encodePacked(hex"1901", domain, message)));
    }
}

/// @notice Users and providers who do anything in any order; what they may not do simply fails.
contract ComputeActors is ComputeWorld {
    mapping(address user => uint256) public deposited;
    mapping(address user => uint256) public drawn;
    mapping(address user => uint256) public charged;
    /// @notice The most that any user's vouchers to a provider ever promised.
    mapping(address user => mapping(address provider => uint256)) public promised;
    uint256 public staked;
    uint256 public unstaked;
    uint256 public slashed;
    uint256 private _nonce;
    uint256 private _task;

    constructor(LedgerManager l, InferenceServing i, FineTuningServing t, ProviderStakes s, TaskBook b) {
        (ledger, inference, tuning, stakes, book) = (l, i, t, s, b);
    }

    function deposit(uint256 who, uint256 amount) external {
        amount = bound(amount, 1, 20 ether);
        if (_do(user(who), address(ledger), amount, abi.encodeCall(ledger.depositFund, ()))) {
            deposited[user(who)] += amount;
        }
    }

    function transfer(uint256 who, uint256 to, uint256 amount, bool tune) external {
        bytes memory data = abi.encodeCall(ledger.transferFund, (provider(to), _name(tune), bound(amount, 0, 10 ether)));
        _do(user(who), address(ledger), 0, data);
    }

    function retrieve(uint256 who, bool tune) external {
        address[] memory all = new address[](PROVIDERS);
        for (uint256 i = 0; i < PROVIDERS; ++i) all[i] = provider(i);
        _do(user(who), address(ledger), 0, abi.encodeCall(ledger.retrieveFund, (all, _name(tune))));
    }

    function draw(uint256 who, uint256 amount, bool all) external {
        address account = user(who);
        try ledger.getLedger(account) returns (Ledger memory record) {
            amount = all ? record.availableBalance : bound(amount, 0, record.availableBalance);
        } catch {
            return;
        }
        uint256 before = account.balance;
        if (_do(account, address(ledger), 0, abi.encodeCall(ledger.refund, (amount)))) {
            eq(account.balance - before, amount, "drawn what was asked for");
            drawn[account] += amount;
        }
    }

    function remove(uint256 who) external {
        _do(user(who), address(ledger), 0, abi.encodeCall(ledger.deleteLedger, ()));
    }

    function revoke(uint256 who, uint256 to, bool all) external {
        bytes memory data = all
            ? abi.encodeCall(inference.revokeAllTokens, (provider(to)))
            : abi.encodeCall(inference.revokeToken, (provider(to), uint8(who)));
        _do(user(who), address(inference), 0, data);
    }

    function signedOnly(uint256 who, uint256 to, bool enabled, bool tune) external {
        address target = tune ? address(tuning) : address(inference);
        _do(user(who), target, 0, abi.encodeCall(inference.setSignedChargesOnly, (provider(to), enabled)));
    }

    function serve(uint256 who, bool tune) external {
        address account = provider(who);
        address signer = KEYS.addr(signerKey(who));
        bytes memory data = tune
            ? abi.encodeCall(
                tuning.addOrUpdateService,
                ("u", Quota(1, 1, 1, 1, "g"), 1, false, new string[](0), signer)
            )
            : abi.encodeCall(
                inference.addOrUpdateService,
                (InferenceServiceParams("c", "u", "m", "v", 1, 1, "", signer))
            );
        address target = tune ? address(tuning) : address(inference);
        if (_do(account, target, 100 ether, data)) staked += 100 ether;
        _do(account, target, 0, abi.encodeCall(tuning.acknowledgeTEESignerByOwner, (account)));
    }

    function leave(uint256 who, bool tune) external {
        _do(provider(who), tune ? address(tuning) : address(inference), 0, abi.encodeCall(tuning.removeService, ()));
    }

    function claimStake(uint256 who, bool tune) external {
        address account = provider(who);
        uint256 before = account.balance;
        address target = tune ? address(tuning) : address(inference);
        _do(account, address(stakes), 0, abi.encodeCall(stakes.claimStake, (target)));
        unstaked += account.balance - before;
    }

    function addStake(uint256 who, uint256 amount, bool tune) external {
        amount = bound(amount, 1, 50 ether);
        address target = tune ? address(tuning) : address(inference);
        if (_do(provider(who), address(stakes), amount, abi.encodeCall(stakes.addStake, (target)))) staked += amount;
    }

    function requestUnstake(uint256 who, uint256 amount, bool tune) external {
        address target = tune ? address(tuning) : address(inference);
        bytes memory data = abi.encodeCall(stakes.requestUnstake, (target, bound(amount, 1, 60 ether)));
        _do(provider(who), address(stakes), 0, data);
    }

    /// What a slasher takes, bonded or unbonding, is burnt for one half and its own for the other: nobody else gains.
    function slash(uint256 who, uint256 amount, bool tune) external {
        amount = bound(amount, 1, 60 ether);
        address target = tune ? address(tuning) : address(inference);
        uint256 others = provider(who).balance + target.balance;
        (uint256 taken, uint256 burnt) = (SLASHER.balance, BURN.balance);
        if (_do(SLASHER, address(stakes), 0, abi.encodeCall(stakes.slash, (target, provider(who), amount)))) {
            slashed += amount;
            eq(SLASHER.balance - taken, amount / 2, "the slasher's half");
            eq(BURN.balance - burnt, amount - amount / 2, "the burnt half");
        }
        eq(provider(who).balance + target.balance, others, "nobody else");
    }

    function settleFee(uint256 who, uint256 to, uint256 fee) external {
        TEESettlementData[] memory items = new TEESettlementData[](1);
        TEESettlementData memory item = items[0];
        (item.user, item.provider, item.nonce) = (user(who), provider(to), ++_nonce);
        item.totalFee = bound(fee, 0, 4 ether);
        bytes32 typeHash = keccak256(
            "TEESettlement(bytes32 requestsHash,uint256 nonce,address provider,address user,uint256 totalFee)"
        );
        item.signature = signature(
            signerKey(to),
            address(inference),
            "0G Inference Serving",
            keccak256(abi.encode(typeHash, item.requestsHash, item.nonce, item.provider, item.user, item.totalFee))
        );
        _charge(who, to, address(inference), abi.encodeCall(inference.settleFeesWithTEE, (items)), item.totalFee);
    }

    function settleVoucher(uint256 who, uint256 to, uint256 fee, uint256 claim) external {
        VoucherSettlement[] memory items = new VoucherSettlement[](1);
        VoucherSettlement memory item = items[0];
        item.user = user(who);
        item.cumulativeFee = uint128(bound(fee, 0, 30 ether));
        item.claim = uint128(bound(claim, 0, item.cumulativeFee));
        item.expiry = type(uint64).max;
        item.generation = uint64(claim % 3);
        bytes32 typeHash = keccak256(
            "Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)"
        );
        item.signature = signature(
            userKey(who),
            address(inference),
            "Weightless Inference",
            keccak256(
                abi.encode(typeHash, item.user, provider(to), item.cumulativeFee, item.expiry, item.generation)
            )
        );
        if (item.cumulativeFee > promised[item.user][provider(to)]) {
            promised[item.user][provider(to)] = item.cumulativeFee;
        }
        _charge(who, to, address(inference), abi.encodeCall(inference.settleVouchers, (items)), item.claim);
    }

    function settlePacked(uint256 who, uint256 to, uint256 fee, uint256 claim) external {
        uint96 cumulative = uint96(bound(fee, 0, 30 ether));
        uint96 claimed = uint96(bound(claim, 0, cumulative));
        uint40 expiry = type(uint40).max;
        uint32 generation = uint32(claim % 3);
        bytes32 typeHash = keccak256(
            "Voucher(address user,address provider,uint128 cumulativeFee,uint64 expiry,uint64 generation)"
        );
        (bytes32 r, bytes32 s, uint8 v) = signatureParts(
            userKey(who),
            address(inference),
            "Weightless Inference",
            keccak256(abi.encode(typeHash, user(who), provider(to), cumulative, expiry, generation))
        );
        if (cumulative > promised[user(who)][provider(to)]) promised[user(who)][provider(to)] = cumulative;
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        bytes memory item = abi.encodePacked(user(who), cumulative, claimed, expiry, generation, r, vs);
        _charge(who, to, address(inference), abi.encodeCall(inference.settlePackedVouchers, (item)), claimed);
    }

    function openTask(uint256 who, uint256 to, uint256 fee, uint256 time) external {
        TaskTerms memory terms = TaskTerms(user(who), _id(_task++), bound(fee, 1, 5 ether), 0);
        terms.deliverBy = uint64(vm.getBlockTimestamp() + bound(time, 1, 10 days));
        bytes32 typeHash = keccak256(
            "TaskTerms(address user,address provider,string id,uint256 maxFee,uint64 deliverBy)"
        );
        bytes32 message = keccak256(
            abi.encode(
                typeHash,
                terms.user,
                provider(to),
                keccak256(bytes(terms.id)),
                terms.maxFee,
                terms.deliverBy
            )
        );
        bytes memory signed = signature(userKey(who), address(book), "Weightless Fine-Tuning", message);
        _do(provider(to), address(book), 0, abi.encodeCall(book.openTask, (terms, signed)));
    }

    function expire(uint256 who, uint256 to, uint256 task) external {
        _do(address(0xABC), address(book), 0, abi.encodeCall(book.expireTask, (user(who), provider(to), _recent(task))));
    }

    function deliver(uint256 who, uint256 to, uint256 task, bool acknowledge) external {
        string memory id = _recent(task);
        _do(provider(to), address(tuning), 0, abi.encodeCall(tuning.addDeliverable, (user(who), id, hex"22")));
        if (!acknowledge) return;
        _do(user(who), address(tuning), 0, abi.encodeCall(tuning.acknowledgeDeliverable, (provider(to), id)));
    }

    function settleTask(uint256 who, uint256 to, uint256 task, uint256 fee, bool secret) external {
        VerifierInput memory input;
        (input.id, input.modelRootHash, input.nonce) = (_recent(task), hex"22", ++_nonce);
        (input.user, input.taskFee) = (user(who), bound(fee, 0, 5 ether));
        if (secret) input.encryptedSecret = hex"01";
        bytes32 typeHash = keccak256(
            "VerifierMessage(string id,bytes encryptedSecret,bytes modelRootHash,uint256 nonce,uint256 taskFee,address user)"
        );
        bytes32 message = keccak256(
            abi.encode(
                typeHash,
                keccak256(bytes(input.id)),
                keccak256(input.encryptedSecret),
                keccak256(input.modelRootHash),
                input.nonce,
                input.taskFee,
                input.user
            )
        );
        input.signature = signature(signerKey(to), address(tuning), "0G Fine-Tuning Serving", message);
        _charge(who, to, address(tuning), abi.encodeCall(tuning.settleFees, (input)), input.taskFee);
    }

    function abandon(uint256 who, uint256 to, uint256 task) external {
        _do(provider(to), address(tuning), 0, abi.encodeCall(tuning.abandonDeliverable, (user(who), _recent(task))));
    }

    function changeLock(uint256 time) external {
        _do(address(this), address(inference), 0, abi.encodeCall(inference.updateLockTime, (bound(time, 1 hours, 7 days))));
    }

    function pass(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + bound(time, 1, 3 days));
    }

    /// A charge pays its provider, at most what was signed, and takes as much from this user alone.
    function _charge(uint256 who, uint256 to, address target, bytes memory data, uint256 most) private {
        uint256 before = provider(to).balance;
        _do(provider(to), target, 0, data);
        uint256 paid = provider(to).balance - before;
        atMost(paid, most, "no more than was signed");
        charged[user(who)] += paid;
    }

    function _do(address caller, address target, uint256 value, bytes memory data) private returns (bool ok) {
        if (value != 0) vm.deal(caller, caller.balance + value);
        vm.prank(caller);
        (ok, ) = target.call{ value: value }(data);
        if (!ok && value != 0) vm.deal(caller, caller.balance - value);
    }

    function _recent(uint256 task) private view returns (string memory) {
        return _id(_task == 0 ? 0 : _task - 1 - (task % (_task < 3 ? _task : 3)));
    }

    function _id(uint256 task) private pure returns (string memory) {
        return string(abi.encodePacked("task-", bytes1(uint8(task >> 8)), bytes1(uint8(task))));
    }

    function _name(bool tune) private pure returns (string memory) {
        return tune ? "fine-tuning-v1.0" : "inference-v1.0";
    }
}

/// @notice No wei appears, vanishes or moves to a third party, whatever users and providers do in whatever order.
contract ComputeInvariants is ComputeWorld {
    ComputeActors private _actors;
    address[] private _targets;

    function setUp() public {
        deployCompute();
        _actors = new ComputeActors(ledger, inference, tuning, stakes, book);
        stakes.announceSlasher(SLASHER);
        vm.warp(vm.getBlockTimestamp() + 14 days);
        for (uint256 i = 0; i < PROVIDERS; ++i) {
            _actors.serve(i, false);
            _actors.serve(i, true);
        }
        for (uint256 i = 0; i < USERS; ++i) {
            _actors.deposit(i, 12 ether);
            for (uint256 j = 0; j < 2; ++j) {
                _actors.transfer(i, i + j, 2 ether, false);
                _actors.transfer(i, i + j, 2 ether, true);
            }
        }
        _targets.push(address(_actors));
    }

    function targetContracts() external view returns (address[] memory) {
        return _targets;
    }

    /// The actors are heard: what follows is not about calls that all fail.
    function test_ActorsAreHeard() external {
        address first = user(0);
        _actors.settleVoucher(0, 0, 1 ether, 0.9 ether);
        eq(_actors.charged(first), 0.9 ether, "a voucher");
        _actors.settleFee(0, 0, 0.5 ether);
        eq(_actors.charged(first), 1.4 ether, "a signed fee");
        _actors.openTask(0, 0, 1.5 ether, 1 days);
        eq(book.heldOf(first, provider(0)), 1.5 ether, "terms");
        _actors.deliver(0, 0, 0, true);
        _actors.settleTask(0, 0, 0, 1 ether, true);
        eq(_actors.charged(first), 2.4 ether, "a deliverable");
        _actors.openTask(0, 0, 0.5 ether, 1 days);
        _actors.pass(2 days);
        _actors.expire(0, 0, 0);
        eq(tuning.lockedBalance(first), 2.5 ether, "an expired task");
        _actors.retrieve(0, true);
        _actors.pass(2 days);
        _actors.retrieve(0, true);
        eq(tuning.lockedBalance(first), 0, "retrieved");
        _actors.draw(0, 0, true);
        atMost(1 ether, _actors.drawn(first), "drawn");
        _actors.leave(0, false);
        _actors.pass(3 days);
        _actors.pass(3 days);
        _actors.pass(3 days);
        _actors.claimStake(0, false);
        eq(_actors.unstaked(), 100 ether, "a stake");
        _actors.settlePacked(1, 1, 1 ether, 0.6 ether);
        eq(_actors.charged(user(1)), 0.6 ether, "a packed voucher");
        _actors.slash(1, 5 ether, false);
        _actors.leave(1, true);
        _actors.slash(1, 7 ether, true);
        eq(_actors.slashed(), 12 ether, "a stake bonded, and one unbonding");
    }

    /// What lies in the ledger is what is available, in each service what lies in its sub-accounts, and in the stakes
    /// what is bonded or unbonding.
    function invariant_EveryContractHoldsWhatItOwes() external view {
        uint256 available;
        uint256 inInference;
        uint256 inTuning;
        for (uint256 i = 0; i < USERS; ++i) {
            available += _available(user(i));
            inInference += inference.lockedBalance(user(i));
            inTuning += tuning.lockedBalance(user(i));
        }
        eq(address(ledger).balance, available, "the ledger");
        eq(address(inference).balance, inInference, "inference");
        eq(address(tuning).balance, inTuning, "fine-tuning");
        uint256 bonded;
        for (uint256 i = 0; i < PROVIDERS; ++i) bonded += _stake(address(inference), i) + _stake(address(tuning), i);
        eq(address(stakes).balance, bonded, "stakes");
        eq(bonded, _actors.staked() - _actors.unstaked() - _actors.slashed(), "staked, and neither returned nor slashed");
        eq(SLASHER.balance + BURN.balance, _actors.slashed(), "slashed");
    }

    /// What a user deposited is what it drew, was charged by providers on a signature, and still has.
    function invariant_EveryUsersMoneyIsItsOwn() external view {
        for (uint256 i = 0; i < USERS; ++i) {
            address account = user(i);
            uint256 has = _available(account) + inference.lockedBalance(account) + tuning.lockedBalance(account);
            eq(_actors.deposited(account), _actors.drawn(account) + _actors.charged(account) + has, "a user's money");
        }
    }

    /// Refunds and holds are parts of the balance, and vouchers never pay more than was promised.
    function invariant_PartsFitTheWhole() external view {
        for (uint256 i = 0; i < USERS; ++i) {
            for (uint256 j = 0; j < PROVIDERS; ++j) {
                (address u, address p) = (user(i), provider(j));
                atMost(inference.voucherPaid(u, p), _actors.promised(u, p), "paid by vouchers");
                if (inference.accountExists(u, p)) {
                    atMost(inference.getPendingRefund(u, p), inference.getAccount(u, p).balance, "pending");
                }
                if (!tuning.accountExists(u, p)) continue;
                uint256 parts = tuning.getPendingRefund(u, p) + book.heldOf(u, p);
                atMost(parts, tuning.getAccount(u, p).balance, "pending and held");
            }
        }
    }

    /// Every list names the same sub-accounts.
    function invariant_ListsAgree() external view {
        uint256 byUser;
        uint256 byProvider;
        for (uint256 i = 0; i < USERS; ++i) {
            address[] memory providers = inference.providersOf(user(i));
            byUser += providers.length;
            for (uint256 j = 0; j < providers.length; ++j) {
                isTrue(inference.accountExists(user(i), providers[j]), "listed and there");
            }
        }
        for (uint256 j = 0; j < PROVIDERS; ++j) {
            (, uint256 count) = inference.getAccountsByProvider(provider(j), 0, 50);
            byProvider += count;
        }
        (, uint256 total) = inference.getAllAccounts(0, 50);
        eq(byUser, total, "by user");
        eq(byProvider, total, "by provider");
    }

    function _available(address account) private view returns (uint256) {
        try ledger.getLedger(account) returns (Ledger memory record) {
            return record.availableBalance;
        } catch {
            return 0;
        }
    }

    function _stake(address service, uint256 index) private view returns (uint256) {
        (uint256 bonded, uint256 unbonding, ) = stakes.stakeOf(service, provider(index));
        return bonded + unbonding;
    }
}
