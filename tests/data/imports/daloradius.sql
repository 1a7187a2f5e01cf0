-- MySQL dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: radius
-- ------------------------------------------------------
/*!40101 SET NAMES utf8mb4 */;

DROP TABLE IF EXISTS `batch_history`;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `batch_history` (
  `id` int(32) NOT NULL AUTO_INCREMENT,
  `batch_name` varchar(64) DEFAULT NULL COMMENT 'an identifier name of the batch instance',
  `batch_status` varchar(128) NOT NULL DEFAULT 'Pending' COMMENT 'the batch status',
  PRIMARY KEY (`id`),
  KEY `batch_name` (`batch_name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

LOCK TABLES `batch_history` WRITE;
/*!40000 ALTER TABLE `batch_history` DISABLE KEYS */;
INSERT INTO `batch_history` VALUES (1,'summer sale','Active'),(2,'pairs','Active');
/*!40000 ALTER TABLE `batch_history` ENABLE KEYS */;
UNLOCK TABLES;

CREATE TABLE `billing_plans` (
  `id` int(8) NOT NULL AUTO_INCREMENT,
  `planName` varchar(128) DEFAULT NULL,
  `planCost` varchar(128) DEFAULT NULL,
  `planCurrency` varchar(128) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB;
INSERT INTO `billing_plans` VALUES (1,'Gold plan','5.50','eur');
CREATE TABLE `billing_plans_profiles` (
  `id` int(32) NOT NULL AUTO_INCREMENT,
  `plan_name` varchar(128) NOT NULL,
  `profile_name` varchar(256) DEFAULT NULL,
  PRIMARY KEY (`id`)
);
INSERT INTO `billing_plans_profiles` VALUES (1,'Gold plan','Gold');

CREATE TABLE `nas` (
  `id` int(10) NOT NULL AUTO_INCREMENT,
  `nasname` varchar(128) NOT NULL,
  `secret` varchar(60) NOT NULL DEFAULT 'secret',
  PRIMARY KEY (`id`)
);
INSERT INTO `nas` VALUES (1,'192.0.2.7','secret');

CREATE TABLE `radacct` (
  `radacctid` bigint(21) NOT NULL AUTO_INCREMENT,
  `acctsessionid` varchar(64) NOT NULL DEFAULT '',
  `acctuniqueid` varchar(32) NOT NULL DEFAULT '',
  `username` varchar(64) NOT NULL DEFAULT '',
  `acctstarttime` datetime DEFAULT NULL,
  `acctstoptime` datetime DEFAULT NULL,
  `acctinputoctets` bigint(20) DEFAULT NULL,
  `acctoutputoctets` bigint(20) DEFAULT NULL,
  PRIMARY KEY (`radacctid`),
  UNIQUE KEY `acctuniqueid` (`acctuniqueid`)
) ENGINE=InnoDB;
INSERT INTO `radacct` VALUES (1,'a','u1','anna','2026-01-31 23:30:00','2026-02-01 01:00:00',100,2000),(2,'b','u2','anna','2026-01-31 08:00:00',NULL,1,5000000000),(3,'c','u3','anna','2026-02-02 08:00:00',NULL,NULL,NULL),(4,'d','u4','gone','2026-02-02 08:00:00',NULL,1,1);

CREATE TABLE `radcheck` (
  `id` int(11) unsigned NOT NULL AUTO_INCREMENT,
  `username` varchar(64) NOT NULL DEFAULT '',
  `attribute` varchar(64) NOT NULL DEFAULT '',
  `op` char(2) NOT NULL DEFAULT '==',
  `value` varchar(253) NOT NULL DEFAULT '',
  PRIMARY KEY (`id`),
  KEY `username` (`username`(32))
) ENGINE=InnoDB AUTO_INCREMENT=46 DEFAULT CHARSET=utf8mb4;
INSERT INTO `radcheck` VALUES (1,'anna','Cleartext-Password',':=','it\'s; \"fine\" (really), ok\\'),(2,'anna','Expiration',':=','15 Mar 2032 10:18:33'),(3,'anna','Simultaneous-Use',':=','3'),
(4,'bob','Cleartext-Password',':=','secret;
and a second line'),(5,'bo''b','User-Password','==','secret'),(6,'hashed','Crypt-Password',':=','$6$x$y'),(7,'nt','NT-Password',':=','0123456789ABCDEF'),(8,'accept','Auth-Type',':=','Accept'),
(9,'blocked','Cleartext-Password',':=','secret'),(10,'rejected','Cleartext-Password',':=','secret'),(11,'rejected','Auth-Type',':=','Reject'),
(12,'free','Cleartext-Password',':=','secret'),(13,'ježe','Cleartext-Password',':=','heslo č'),
(14,'kbx4mn','Cleartext-Password',':=','kbx4mn'),(15,'kbx4mp','Cleartext-Password',':=','kbx4mp'),(16,'user7','Cleartext-Password',':=','other'),
(17,'aa-bb-cc-00-11-22','Cleartext-Password',':=','aa-bb-cc-00-11-22'),(18,'aa-bb-cc-00-11-22','Calling-Station-Id','==','AA-BB-CC-00-11-22');

CREATE TABLE `radgroupcheck` (
  `id` int(11) unsigned NOT NULL AUTO_INCREMENT,
  `groupname` varchar(64) NOT NULL DEFAULT '',
  `attribute` varchar(64) NOT NULL DEFAULT '',
  `op` char(2) NOT NULL DEFAULT '==',
  `value` varchar(253) NOT NULL DEFAULT '',
  PRIMARY KEY (`id`)
);
INSERT INTO `radgroupcheck` VALUES (1,'daloRADIUS-Disabled-Users','Auth-Type',':=','Reject'),(2,'Gold','Simultaneous-Use',':=','2'),(3,'Gold','Access-Period',':=','604800'),(4,'Gold','Login-Time',':=','Wk0800-2000,Sa0900-1200'),(5,'Gold','Max-All-Session',':=','86400');
CREATE TABLE `radgroupreply` (
  `id` int(11) unsigned NOT NULL AUTO_INCREMENT,
  `groupname` varchar(64) NOT NULL DEFAULT '',
  `attribute` varchar(64) NOT NULL DEFAULT '',
  `op` char(2) NOT NULL DEFAULT '=',
  `value` varchar(253) NOT NULL DEFAULT '',
  PRIMARY KEY (`id`)
);
INSERT INTO `radgroupreply` VALUES (1,'Gold','Mikrotik-Rate-Limit',':=','5M/20M 6M/30M'),(2,'Gold','Mikrotik-Total-Limit',':=','1410065408'),(3,'Gold','Mikrotik-Total-Limit-Gigawords',':=','2'),(4,'Gold','Idle-Timeout',':=','600'),(5,'Gold','Acct-Interim-Interval',':=','60'),(6,'Stříbrná karta','WISPr-Bandwidth-Max-Down',':=','2000000'),(7,'Stříbrná karta','WISPr-Bandwidth-Max-Up',':=','512000'),(8,'Stříbrná karta','Session-Timeout',':=','3600');
CREATE TABLE `radreply` (
  `id` int(11) unsigned NOT NULL AUTO_INCREMENT,
  `username` varchar(64) NOT NULL DEFAULT '',
  `attribute` varchar(64) NOT NULL DEFAULT '',
  `op` char(2) NOT NULL DEFAULT '=',
  `value` varchar(253) NOT NULL DEFAULT '',
  PRIMARY KEY (`id`)
);
INSERT INTO `radreply` VALUES (1,'anna','Framed-IP-Address',':=','198.51.100.9'),(2,'user7','Framed-IP-Address',':=','198.51.100.9'),(3,'bob','Reply-Message','=','hello');
CREATE TABLE `radusergroup` (
  `username` varchar(64) NOT NULL DEFAULT '',
  `groupname` varchar(64) NOT NULL DEFAULT '',
  `priority` int(11) NOT NULL DEFAULT 1,
  KEY `username` (`username`(32))
);
INSERT INTO `radusergroup` (`username`, `groupname`, `priority`) VALUES ('anna','Stříbrná karta',5),('anna','Gold',0),('bob','Gold',0),('bo''b','Gold',1),('blocked','Gold',1),('blocked','daloRADIUS-Disabled-Users',0),('rejected','Gold',1),('hashed','Gold',1),('nt','Gold',1),('accept','Gold',1),('ježe','Stříbrná karta',1),('kbx4mp','Gold',1),('user7','Gold',1),('aa-bb-cc-00-11-22','Gold',1);
CREATE TABLE `userbillinfo` (
  `id` int(8) unsigned NOT NULL AUTO_INCREMENT,
  `username` varchar(128) DEFAULT NULL,
  `planName` varchar(128) DEFAULT NULL,
  `batch_id` int(32) DEFAULT NULL,
  PRIMARY KEY (`id`)
);
INSERT INTO `userbillinfo` VALUES (1,'kbx4mn','Gold plan',1),(2,'kbx4mp','Gold plan',1),(3,'user7','Gold plan',2);
CREATE TABLE `userinfo` (
  `id` int(8) unsigned NOT NULL AUTO_INCREMENT,
  `username` varchar(128) DEFAULT NULL,
  `firstname` varchar(200) DEFAULT NULL,
  PRIMARY KEY (`id`)
);
INSERT INTO `userinfo` VALUES (1,'anna',_binary 'Anna');
-- Dump completed on 2026-10-10 18:35:03
