// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title AccountIndex
/// @notice Lists of sub-accounts by user, by provider, and of all, each entry one word. An entry knows where its twins
/// in the other lists are, so that a removal moves the last entry of each list into the gap and loops over nothing.
abstract contract AccountIndex {
    /* STORAGE */

    /// @dev provider (bits 0..159) | place in the provider's list (160..207) | place in the list of all (208..255).
    mapping(address user => uint256[]) internal _providersOf;
    mapping(address provider => address[]) internal _usersOf;
    /// @dev user (bits 0..159) | place in the user's list (160..255).
    uint256[] internal _allAccounts;

    /* INTERNAL */

    /// @dev Place of the sub-account in the user's list, counted from 1; 0 if it is not there.
    function _position(address user, address provider) internal view virtual returns (uint256);

    function _setPosition(address user, address provider, uint256 position) internal virtual;

    /// @return position Place in the user's list, counted from 1.
    function _indexAccount(address user, address provider) internal returns (uint256 position) {
        uint256[] storage own = _providersOf[user];
        position = own.length + 1;
        own.push(uint160(provider) | (_usersOf[provider].length << 160) | (_allAccounts.length << 208));
        _usersOf[provider].push(user);
        _allAccounts.push(uint160(user) | ((position - 1) << 160));
    }

    function _unindexAccount(address user, address provider) internal {
        uint256 place = _position(user, provider) - 1;
        uint256 entry = _providersOf[user][place];
        _removeFromAll(entry >> 208);
        _removeFromProvider(provider, uint48(entry >> 160));
        _removeFromUser(user, place);
    }

    function _accountAt(uint256 place) internal view returns (address user, address provider) {
        uint256 entry = _allAccounts[place];
        user = address(uint160(entry));
        provider = address(uint160(_providersOf[user][entry >> 160]));
    }

    /* INTERNAL: ONE LIST EACH */

    function _removeFromAll(uint256 place) private {
        uint256 last = _allAccounts[_allAccounts.length - 1];
        _allAccounts[place] = last;
        _allAccounts.pop();
        uint256[] storage list = _providersOf[address(uint160(last))];
        list[last >> 160] = (list[last >> 160] & type(uint208).max) | (place << 208);
    }

    function _removeFromProvider(address provider, uint256 place) private {
        address[] storage users = _usersOf[provider];
        address last = users[users.length - 1];
        users[place] = last;
        users.pop();
        uint256[] storage list = _providersOf[last];
        uint256 entry = _position(last, provider) - 1;
        list[entry] = (list[entry] & ~(uint256(type(uint48).max) << 160)) | (place << 160);
    }

    function _removeFromUser(address user, uint256 place) private {
        uint256[] storage own = _providersOf[user];
        uint256 last = own[own.length - 1];
        own[place] = last;
        own.pop();
        if (place == own.length) return;
        _setPosition(user, address(uint160(last)), place + 1);
        _allAccounts[last >> 208] = uint160(user) | (place << 160);
    }
}
